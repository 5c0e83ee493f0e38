"""A sweep as a table: on the terminal, as CSV, as Markdown, as a page."""

import csv
import io
import textwrap
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from rich.console import Console
from rich.table import Table

from experiments.sweep_measures import PARTS
from vidembed import storage
from vidembed.report import charts, wording
from vidembed.report.page import write_report
from vidembed.report.sweep import cells, has_paper, plots

Row = list[list[str]]
"""Cells, each of one or more lines."""
NAME_WIDTH = 22
"""Characters of a name in the table of differences, so that it is 80 wide."""
COLUMNS = 4
"""Scores that stand beside a name on the terminal; what is more stands in a table below."""
PAPER = "The paper's numbers are percent, on other data: compare orders and ratios, not levels."


def print_sweep(result: Mapping[str, Any], console: Console | None = None) -> None:
    """The table, the comparisons and what is missing, about 80 columns wide."""
    console = console or Console(highlight=False)
    for title, header, rows in _tables(result):
        for start in range(1, len(header), COLUMNS):
            table = Table(title=title, title_justify="left", box=None, pad_edge=False)
            some = slice(start, start + COLUMNS)
            for place, name in enumerate([header[0], *header[some]]):
                side: Literal["left", "right"] = "right" if place else "left"
                table.add_column("\n".join(name), justify=side, no_wrap=True)
            for row in rows:
                table.add_row(*("\n".join(cell) for cell in [row[0], *row[some]]))
            console.print(table, "")
    for line in _remarks(result):
        console.print(line, markup=False, soft_wrap=True)


def write_sweep(
    result: Mapping[str, Any], folder: Path, journals: Mapping[str, Any]
) -> Iterator[Path]:
    """Writes NAME.json, .csv, .md and .html into `folder`; yields each path."""
    name = result["sweep"]
    storage.write_json(folder / f"{name}.json", result)
    yield folder / f"{name}.json"
    for suffix, text in (("csv", as_csv(result)), ("md", as_markdown(result))):
        storage.write_text(folder / f"{name}.{suffix}", text)
        yield folder / f"{name}.{suffix}"
    write_report(
        folder / f"{name}.html",
        title=f"vidembed sweep: {result['title']}",
        summary={key: result[key] for key in ("simulated_sessions", "seeds", "versions")},
        journals=journals,
        evaluations={},
        corpora=result["data"],
        gallery=[],
        recipe=result["recipe"],
        sweep=result,
    )
    yield folder / f"{name}.html"
    for plot in plots(result):
        file = folder / f"{name}-{plot['direction']}.svg"
        storage.write_text(file, charts.standalone(plot["svg"]))
        yield file


def as_markdown(result: Mapping[str, Any]) -> str:
    """The same tables in Markdown."""
    lines = [f"# {result['title']}", ""]
    for title, header, rows in _tables(result):
        lines += [f"**{title}**", "", _line(map(" ".join, header)), _line(["---"] * len(header))]
        lines += [_line(" ".join(cell) for cell in row) for row in rows]
        lines.append("")
    return "\n".join([*lines, *(f"- {line}" for line in _remarks(result))]) + "\n"


def as_csv(result: Mapping[str, Any]) -> str:
    """One row a point and a control, numbers unrounded; empty where there is none yet."""
    text = io.StringIO()
    names = ["point", "kind", "seeds", "parameters", "train_seconds", "simulated_sessions"]
    for direction, metric in cells(result):
        of = f"{direction}/{metric}"
        names += [of, f"{of}/low", f"{of}/high", f"{of}/paper_percent"]
    writer = csv.DictWriter(text, names)
    writer.writeheader()
    for kind in ("points", "controls"):
        for name, point in result[kind].items():
            row = {
                "point": name,
                "kind": kind.removesuffix("s"),
                "seeds": " ".join(map(str, point["seeds"])),
                "parameters": point.get("parameters"),
                "train_seconds": point.get("train_seconds"),
                "simulated_sessions": result["simulated_sessions"],
            }
            paper = point.get("paper_percent") or {}
            for direction, metric in cells(result):
                of = f"{direction}/{metric}"
                score = point.get("scores", {}).get(direction, {}).get(metric, {})
                row |= {of: score.get("value")}
                row |= {f"{of}/{end}": score.get(end) for end in ("low", "high")}
                row[f"{of}/paper_percent"] = paper.get(direction, {}).get(metric)
            writer.writerow(row)
    return text.getvalue()


def _tables(result: Mapping[str, Any]) -> Iterator[tuple[str, Row, list[Row]]]:
    """Title, header and rows of cells, which are lines of text."""
    told = " (SIMULATED SESSIONS)" if result["simulated_sessions"] else ""
    where = cells(result)
    scored = [[wording.direction(d), wording.metric(m)] for d, m in where]
    seeds = result["seeds"]
    named = [*result["points"].items()]
    named += [(wording.system(name), control) for name, control in result["controls"].items()]
    rows = [_point_row(name, point, seeds, where) for name, point in named]
    yield f"{result['title']}{told}", [["point"], *scored], rows
    compared = (*result["comparisons"], *result["permuted"])
    rows = [_difference_row(one, seeds, where) for one in compared]
    yield f"Paired differences{told}", [["one - other"], *scored], rows
    rows = [
        [[name], [wording.words(measure)], *([f"{mean:.4f}"] for mean in means)]
        for name, point in result["points"].items()
        for measure, means in point.get("measures", {}).items()
    ]
    if rows:
        header = [["point"], ["measure"], *([part] for part in PARTS)]
        yield f"In training, means of the logged steps{told}", header, rows


def _point_row(
    name: str, point: Mapping[str, Any], seeds: Sequence[int], where: Sequence[tuple[str, str]]
) -> Row:
    cost = []
    if point.get("parameters") is not None:
        cost = [f"{point['parameters'] / 1e6:.1f} M, {point['train_seconds']:.0f} s", point["size"]]
    row = [[name, *cost, _taken(point["seeds"], seeds)]]
    paper = point.get("paper_percent") or {}
    for direction, metric in where:
        score = point.get("scores", {}).get(direction, {}).get(metric)
        lines = [wording.ABSENT]
        if score:
            lines = [f"{score['value']:.3f}", f"{score['low']:.3f}–{score['high']:.3f}"]
        theirs = paper.get(direction, {}).get(metric)
        row.append(lines + ([] if theirs is None else [f"paper {theirs:.2f}"]))
    return row


def _difference_row(
    one: Mapping[str, Any], seeds: Sequence[int], where: Sequence[tuple[str, str]]
) -> Row:
    said = (one["one"], f"- {one['other']}", one["asks"], _taken(one["seeds"], seeds))
    row = [[line for words in said for line in textwrap.wrap(words, NAME_WIDTH)]]
    paper = one["paper_percent"] or {}
    for direction, metric in where:
        score = one["differences"].get(direction, {}).get(metric)
        lines = [wording.ABSENT]
        if score:
            ends = [f"{score[end]:+.4f}" for end in ("value", "low", "high")]
            each = one["per_seed"][direction][metric]
            above = f"+ in {sum(value > 0 for value in each)} of {len(each)}"
            lines = [ends[0], f"{ends[1]} to", ends[2], above]
        theirs = paper.get(direction, {}).get(metric)
        row.append(lines + ([] if theirs is None else [f"paper {theirs:+.2f}"]))
    return row


def _remarks(result: Mapping[str, Any]) -> list[str]:
    seeds = ", ".join(map(str, result["seeds"]))
    said = [f"The paper: {result['claim']}"]
    if has_paper(result):
        said.append(PAPER)
    said.append(
        f"Means over seeds {seeds}, where a row names no others; 95 % intervals by resampling "
        "videos, the same in all seeds."
    )
    said.append("+ in 2 of 3: seeds, each a training of its own, with a difference above zero.")
    found = [wording.direction(d) for d in wording.oracles(result["columns"])]
    if found:
        said.append(
            f"Popularity, {' and '.join(found)}, is an oracle: it counts sessions of the future."
        )
    if "eval_to_eval" in result["columns"]:
        said.append(f"{wording.direction('eval_to_eval')}: {wording.ASKED['eval_to_eval']}")
    said += [f"MISSING {line}" for line in result["missing"]]
    return said


def _taken(seeds: Sequence[int], of: Sequence[int]) -> str:
    if list(seeds) == list(of):
        return f"{len(seeds)} seed{'' if len(seeds) == 1 else 's'}"
    if not seeds:
        return "no seed yet"
    return f"ONLY seed{'' if len(seeds) == 1 else 's'} {', '.join(map(str, seeds))}"


def _line(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |"

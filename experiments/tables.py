"""What was measured, as tables: on the terminal, as CSV, as Markdown, as a page."""

import csv
import io
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from experiments.gathering import PARTS
from vidembed import files
from vidembed.report import charts, wording
from vidembed.report.headline import headline
from vidembed.report.page import write_report
from vidembed.report.sweep import cells, columns, compared, has_paper, named, plots

Row = list[list[str]]
"""Cells, each of one or more lines."""
NAME_WIDTH = 22
"""Characters of a name in the table of differences, so that it is 80 wide."""
COLUMNS = 4
"""Scores that stand beside a name on the terminal; what is more stands in a table below."""
PAPER = "The paper's numbers are percent, on other data: compare orders and ratios, not levels."


def print_systems(summary: Mapping[str, Any], console: Console | None = None) -> None:
    """A table for each direction, 80 columns wide: a row a system, NDCG with its interval.

    summary: direction → system → metric → {value, low, high}, on simulated sessions.
    """
    console = console or Console(highlight=False)
    for direction, systems in summary.items():
        query, _, candidates = direction.partition("_to_")
        candidates = f"other {candidates}" if query == candidates else candidates
        title = f"{query} queries, {candidates} candidates, SIMULATED sessions"
        main = headline(direction, next(iter(systems.values())))
        metrics = (main, "map", main.replace("ndcg", "recall"))
        ndcg, *others = map(wording.metric, metrics)
        table = Table("system", title=title, title_justify="left", box=SIMPLE_HEAD)
        for name in (ndcg, "95 % interval", *others):
            table.add_column(name, justify="right")
        for system in wording.in_order(systems):
            of = systems[system]
            value, *rest = (f"{of[metric]['value']:.3f}" for metric in metrics)
            interval = f"{of[main]['low']:.3f} to {of[main]['high']:.3f}"
            table.add_row(wording.system(system, direction), value, interval, *rest)
        console.print(table)


def print_sweep(result: Mapping[str, Any]) -> None:
    """The table, the comparisons and what is missing, about 80 columns wide."""
    console = Console(highlight=False)
    for title, header, rows in _tables(result):
        for start in range(1, len(header), COLUMNS):
            table = Table(title=title, title_justify="left", box=None, pad_edge=False)
            for place, name in enumerate([header[0], *header[start : start + COLUMNS]]):
                side: Literal["left", "right"] = "right" if place else "left"
                table.add_column("\n".join(name), justify=side, no_wrap=True)
            for row in rows:
                some = [row[0], *row[start : start + COLUMNS]]
                table.add_row(*("\n".join(cell) for cell in some))
            console.print(table, "")
    for line in _remarks(result):
        console.print(line, markup=False, soft_wrap=True)


def write_sweep(
    result: Mapping[str, Any], folder: Path, journals: Mapping[str, Any]
) -> Iterator[Path]:
    """Writes NAME.json, .csv, .md and .html into `folder`, and a plot each direction."""
    name = result["sweep"]
    files.write_json(folder / f"{name}.json", result)
    files.write_text(folder / f"{name}.csv", as_csv(result))
    files.write_text(folder / f"{name}.md", as_markdown(result))
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
    yield from (folder / f"{name}.{suffix}" for suffix in ("json", "csv", "md", "html"))
    for plot in plots(result):
        file = folder / f"{name}-{plot['direction']}.svg"
        files.write_text(file, charts.standalone(plot["svg"]))
        yield file


def as_markdown(result: Mapping[str, Any]) -> str:
    """The same tables in Markdown."""
    lines = [f"# {result['title']}", ""]
    for title, header, rows in _tables(result):
        joined = [[" ".join(cell) for cell in row] for row in (header, *rows)]
        table = [
            f"| {' | '.join(row)} |" for row in (joined[0], ["---"] * len(header), *joined[1:])
        ]
        lines += [f"**{title}**", "", *table, ""]
    return "\n".join([*lines, *(f"- {line}" for line in _remarks(result))]) + "\n"


def as_csv(result: Mapping[str, Any]) -> str:
    """One row a point and a control, numbers unrounded; empty where there is none yet."""
    rows = []
    for kind, of_kind in (("point", result["points"]), ("control", result["controls"])):
        for name, point in of_kind.items():
            row = {"point": name, "kind": kind, "seeds": " ".join(map(str, point["seeds"]))}
            row |= {key: point.get(key) for key in ("parameters", "train_seconds")}
            row["simulated_sessions"] = result["simulated_sessions"]
            for (direction, metric), cell in zip(columns(result), cells(result, point)):
                of, interval = f"{direction}/{metric}", cell["interval"]
                row |= {of: interval.get("value"), f"{of}/low": interval.get("low")}
                row |= {f"{of}/high": interval.get("high"), f"{of}/paper_percent": cell["paper"]}
            rows.append(row)
    text = io.StringIO()
    writer = csv.DictWriter(text, rows[0])
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def _tables(result: Mapping[str, Any]) -> Iterator[tuple[str, Row, list[Row]]]:
    """Title, header and rows of cells, which are lines of text."""
    simulated = " (SIMULATED SESSIONS)" if result["simulated_sessions"] else ""
    scored = [[wording.direction(d), wording.metric(m)] for d, m in columns(result)]
    rows = []
    for name, point in named(result).items():
        said = [name]
        if point.get("parameters") is not None:
            said.append(f"{point['parameters'] / 1e6:.1f} M, {point['train_seconds']:.0f} s")
            said.append(point["size"])
        rows.append(_row(result, said, point, "{value:.3f}", "{low:.3f}–{high:.3f}", "{:.2f}"))
    yield f"{result['title']}{simulated}", [["point"], *scored], rows
    rows = []
    for one in compared(result):
        parts = (one["one"], f"- {one['other']}", one["asks"])
        said = [line for words in parts for line in textwrap.wrap(words, NAME_WIDTH)]
        rows.append(
            _row(result, said, one, "{value:+.4f}", "{low:+.4f} to\n{high:+.4f}", "{:+.2f}")
        )
    yield f"Paired differences{simulated}", [["one - other"], *scored], rows
    rows = [
        [[name], [wording.words(measure)], *([f"{mean:.4f}"] for mean in of)]
        for name, point in result["points"].items()
        for measure, of in point.get("measures", {}).items()
    ]
    if rows:
        header = [["point"], ["measure"], *([part] for part in PARTS)]
        yield f"In training, means of the logged steps{simulated}", header, rows


def _row(result: Mapping[str, Any], said: list[str], one: Mapping[str, Any], *forms: str) -> Row:
    """What is said of a point or a comparison and its seeds, then its scores.

    forms: how the value, its interval and the paper's number are written.
    """
    value, interval, paper = forms
    row = [[*said, *textwrap.wrap(_taken(one["seeds"], result["seeds"]), NAME_WIDTH)]]
    for cell in cells(result, one):
        lines = [wording.ABSENT]
        if found := cell["interval"]:
            lines = [value.format(**found), *interval.format(**found).split("\n")]
            if each := [difference > 0 for difference in cell["each"]]:
                lines.append(f"+ in {sum(each)} of {len(each)}")
        row.append(
            lines + ([] if cell["paper"] is None else [f"paper {paper.format(cell['paper'])}"])
        )
    return row


def _remarks(result: Mapping[str, Any]) -> Iterator[str]:
    yield f"The paper: {result['claim']}"
    if has_paper(result):
        yield PAPER
    yield (
        f"Means over seeds {', '.join(map(str, result['seeds']))}, where a row names no others; "
        "95 % intervals by resampling videos, the same in all seeds."
    )
    yield "+ in 2 of 3: seeds, each a training of its own, with a difference above zero."
    if found := [wording.direction(d) for d in wording.oracles(result["columns"])]:
        yield f"Popularity, {' and '.join(found)}, is an oracle: it counts sessions of the future."
    if "eval_to_eval" in result["columns"]:
        yield f"{wording.direction('eval_to_eval')}: {wording.ASKED['eval_to_eval']}"
    yield from (f"MISSING {line}" for line in result["missing"])


def _taken(seeds: Sequence[int], of: Sequence[int]) -> str:
    many = "" if len(seeds) == 1 else "s"
    if list(seeds) == list(of):
        return f"{len(seeds)} seed{many}"
    return f"ONLY seed{many} {', '.join(map(str, seeds))}" if seeds else "no seed yet"

"""Results as tables: on the terminal, as CSV, as Markdown and as a report page."""

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
"""Characters per name in the table of differences, so that it is 80 wide."""
COLUMNS = 4
"""Scores per table on the terminal; further ones go into a table below."""
PAPER = "The paper's numbers are percent, on other data: compare orders and ratios, not levels."


def print_systems(summary: Mapping[str, Any], console: Console | None = None) -> None:
    """Print one table per direction, 80 columns wide: one row per system, NDCG with its interval.

    summary: direction → system → metric → {value, low, high}, on simulated sessions.
    """
    console = console or Console(highlight=False)
    for direction, systems in summary.items():
        title = f"{wording.direction(direction)} videos, SIMULATED sessions"
        main = headline(direction, next(iter(systems.values())))
        metrics = (main, "map", main.replace("ndcg", "recall"))
        ndcg, *other_names = map(wording.metric, metrics)
        table = Table("system", title=title, title_justify="left", box=SIMPLE_HEAD)
        for name in (ndcg, "95 % interval", *other_names):
            table.add_column(name, justify="right")
        for system in wording.in_order(systems):
            scores = systems[system]
            value, *rest = (f"{scores[metric]['value']:.3f}" for metric in metrics)
            interval = f"{scores[main]['low']:.3f} to {scores[main]['high']:.3f}"
            table.add_row(wording.system(system, direction), value, interval, *rest)
        console.print(table)


def print_sweep(result: Mapping[str, Any]) -> None:
    """Print the table, the comparisons and what is missing, about 80 columns wide."""
    console = Console(highlight=False)
    for title, header, rows in _tables(result):
        for start in range(1, len(header), COLUMNS):
            table = Table(title=title, title_justify="left", box=None, pad_edge=False)
            for place, name in enumerate([header[0], *header[start : start + COLUMNS]]):
                side: Literal["left", "right"] = "right" if place else "left"
                table.add_column("\n".join(name), justify=side, no_wrap=True)
            for row in rows:
                part = [row[0], *row[start : start + COLUMNS]]
                table.add_row(*("\n".join(cell) for cell in part))
            console.print(table, "")
    for line in _remarks(result):
        console.print(line, markup=False, soft_wrap=True)


def write_sweep(
    result: Mapping[str, Any], folder: Path, journals: Mapping[str, Any]
) -> Iterator[Path]:
    """Write NAME.json, .csv, .md and .html into `folder`, and one plot per direction."""
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
    """The tables as Markdown."""
    lines = [f"# {result['title']}", ""]
    for title, header, rows in _tables(result):
        joined = [[" ".join(cell) for cell in row] for row in (header, *rows)]
        table = [
            f"| {' | '.join(row)} |" for row in (joined[0], ["---"] * len(header), *joined[1:])
        ]
        lines += [f"**{title}**", "", *table, ""]
    return "\n".join([*lines, *(f"- {line}" for line in _remarks(result))]) + "\n"


def as_csv(result: Mapping[str, Any]) -> str:
    """One row per point and control, with unrounded numbers; empty cells for missing ones."""
    rows = []
    for kind, of_kind in (("point", result["points"]), ("control", result["controls"])):
        for name, point in of_kind.items():
            row = {"point": name, "kind": kind, "seeds": " ".join(map(str, point["seeds"]))}
            row |= {key: point.get(key) for key in ("parameters", "train_seconds")}
            row["simulated_sessions"] = result["simulated_sessions"]
            for (direction, metric), cell in zip(columns(result), cells(result, point)):
                column, interval = f"{direction}/{metric}", cell["interval"]
                row |= {column: interval.get("value"), f"{column}/low": interval.get("low")}
                row |= {
                    f"{column}/high": interval.get("high"),
                    f"{column}/paper_percent": cell["paper"],
                }
            rows.append(row)
    text = io.StringIO()
    writer = csv.DictWriter(text, rows[0])
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def _tables(result: Mapping[str, Any]) -> Iterator[tuple[str, Row, list[Row]]]:
    """Yield title, header and rows of each table; cells are lines of text."""
    simulated = " (SIMULATED SESSIONS)" if result["simulated_sessions"] else ""
    scored = [[wording.direction(d), wording.metric(m)] for d, m in columns(result)]
    rows = []
    for name, point in named(result).items():
        description = [name]
        if point.get("parameters") is not None:
            description.append(f"{point['parameters'] / 1e6:.1f} M, {point['train_seconds']:.0f} s")
            description.append(point["size"])
        rows.append(
            _row(result, description, point, "{value:.3f}", "{low:.3f}–{high:.3f}", "{:.2f}")
        )
    yield f"{result['title']}{simulated}", [["point"], *scored], rows
    rows = []
    for comparison in compared(result):
        parts = (comparison["one"], f"- {comparison['other']}", comparison["asks"])
        description = [line for words in parts for line in textwrap.wrap(words, NAME_WIDTH)]
        rows.append(
            _row(
                result,
                description,
                comparison,
                "{value:+.4f}",
                "{low:+.4f} to\n{high:+.4f}",
                "{:+.2f}",
            )
        )
    yield f"Paired differences{simulated}", [["one - other"], *scored], rows
    rows = [
        [[name], [wording.words(measure)], *([f"{mean:.4f}"] for mean in means)]
        for name, point in result["points"].items()
        for measure, means in point.get("measures", {}).items()
    ]
    if rows:
        header = [["point"], ["measure"], *([part] for part in PARTS)]
        yield f"In training, means of the logged steps{simulated}", header, rows


def _row(
    result: Mapping[str, Any], description: list[str], scored: Mapping[str, Any], *forms: str
) -> Row:
    """One row: the description of a point or a comparison with its seeds, then its scores.

    forms: formats of the value, its interval and the paper's number.
    """
    value, interval, paper = forms
    row = [[*description, *textwrap.wrap(_seeds_of(scored["seeds"], result["seeds"]), NAME_WIDTH)]]
    for cell in cells(result, scored):
        lines = [wording.ABSENT]
        if scores := cell["interval"]:
            lines = [value.format(**scores), *interval.format(**scores).split("\n")]
            if above_zero := [difference > 0 for difference in cell["each"]]:
                lines.append(f"+ in {sum(above_zero)} of {len(above_zero)}")
        row.append(
            lines + ([] if cell["paper"] is None else [f"paper {paper.format(cell['paper'])}"])
        )
    return row


def _remarks(result: Mapping[str, Any]) -> Iterator[str]:
    yield f"The paper: {result['claim']}"
    if has_paper(result):
        yield PAPER
    yield (
        f"Means over seeds {', '.join(map(str, result['seeds']))}, unless a row names others; "
        "95 % intervals by resampling videos, the same in all seeds."
    )
    yield "+ in 2 of 3: the number of seeds, each its own training, with a difference above zero."
    if oracles := [wording.direction(d) for d in wording.oracles(result["columns"])]:
        yield f"Popularity, {' and '.join(oracles)}, is an oracle: it counts future sessions."
    if "eval_to_eval" in result["columns"]:
        yield f"{wording.direction('eval_to_eval')}: {wording.ASKED['eval_to_eval']}"
    yield from (f"MISSING {line}" for line in result["missing"])


def _seeds_of(seeds: Sequence[int], all_seeds: Sequence[int]) -> str:
    plural = "" if len(seeds) == 1 else "s"
    if list(seeds) == list(all_seeds):
        return f"{len(seeds)} seed{plural}"
    return f"ONLY seed{plural} {', '.join(map(str, seeds))}" if seeds else "no seed yet"

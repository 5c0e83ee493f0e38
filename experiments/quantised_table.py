"""What codes cost, as tables and plots: on the terminal, as CSV, Markdown, JSON and SVG."""

import csv
import io
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from vidembed import files
from vidembed.report import charts, wording
from vidembed.report.codes import METRIC, plot

_SHORT = (("undivided", "{:.1f}"), ("widest", "{:.1f}"))


def print_quantised(result: Mapping[str, Any], console: Console | None = None) -> None:
    """A table for each direction, 80 columns wide, and what to know of them."""
    console = console or Console(highlight=False)
    for direction in result["directions"]:
        table = Table(
            title=_title(result, direction), title_justify="left", box=None, pad_edge=False
        )
        for place, name in enumerate(_header(result)):
            table.add_column(name, justify="right" if place > 1 else "left")
        for row in _rows(result, direction):
            table.add_row(*row)
        console.print(table, "")
    for line in _remarks(result):
        console.print(line, markup=False, soft_wrap=True)


def write_quantised(result: Mapping[str, Any], folder: Path) -> Iterator[Path]:
    """Writes quantised.json, .csv, .md and a plot for each direction into `folder`; yields each
    path."""
    texts = {"csv": as_csv(result), "md": as_markdown(result)}
    files.write_json(folder / "quantised.json", result)
    yield folder / "quantised.json"
    for suffix, text in texts.items():
        files.write_text(folder / f"quantised.{suffix}", text)
        yield folder / f"quantised.{suffix}"
    for direction in result["directions"] if result["rows"] else ():
        file = folder / f"quantised-{direction}.svg"
        files.write_text(file, charts.standalone(plot(result["rows"], direction)))
        yield file


def as_markdown(result: Mapping[str, Any]) -> str:
    """The same tables in Markdown."""
    lines = [f"# {result['title']}", ""]
    for direction in result["directions"]:
        header = [name.replace("\n", " ") for name in _header(result)]
        rows = [header, ["---"] * len(header), *_rows(result, direction)]
        table = [f"| {' | '.join(row)} |" for row in rows]
        lines += [f"**{_title(result, direction)}**", "", *table, ""]
    return "\n".join([*lines, *(f"- {line}" for line in _remarks(result))]) + "\n"


def as_csv(result: Mapping[str, Any]) -> str:
    """One row for each code of a width, numbers unrounded."""
    rows = []
    for of in result["rows"]:
        row = {name: of[name] for name in ("width", "code", "kind", "bytes", "error")}
        row |= {"seeds": " ".join(map(str, of["seeds"]))}
        row["simulated_sessions"] = result["simulated_sessions"]
        for direction in result["directions"]:
            for name in ("scores", "own", "widest", "undivided"):
                interval = of[name].get(direction, {}).get(METRIC, {})
                row |= {f"{direction}/{name}/{end}": interval.get(end) for end in charts.ENDS}
            row[f"{direction}/paper"] = (of["paper"] or {}).get(direction)
        rows.append(row)
    text = io.StringIO()
    writer = csv.DictWriter(text, rows[0] if rows else ("width", "code"))
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def _header(result: Mapping[str, Any]) -> list[str]:
    widest = f"of {result['widest']}\nfloat32"
    ours = ["width", "code", "bytes", "NDCG", "of own\nfloat32, %", "un-\ndivided"]
    return [*ours, widest, "paper"]


def _rows(result: Mapping[str, Any], direction: str) -> Iterator[list[str]]:
    for row in sorted(result["rows"], key=lambda row: (-row["width"], -row["bytes"])):
        said = [str(row["width"]), row["code"], f"{row['bytes']:,}"]
        said.append(wording.score(row["scores"][direction][METRIC]["value"]))
        for name, one in (("own", "{:.1f} [{:.1f}, {:.1f}]"), *_SHORT):
            found = row[name].get(direction, {}).get(METRIC)
            ends = [100 * found[end] for end in charts.ENDS] if found else []
            said.append(one.format(*ends) if ends else wording.ABSENT)
        paper = (row["paper"] or {}).get(direction)
        yield [*said, f"{100 * paper:.1f}" if paper else ""]


def _title(result: Mapping[str, Any], direction: str) -> str:
    simulated = " (SIMULATED SESSIONS)" if result["simulated_sessions"] else ""
    return f"{wording.direction(direction)}{simulated}"


def _remarks(result: Mapping[str, Any]) -> Iterator[str]:
    yield f"The paper: {result['claim']} Its Table 3 is another evaluation: compare ratios alone."
    yield (
        "Queries and candidates are both coded, by what was fitted on train videos. Products are "
        "divided by the lengths of what codes stand for; undivided: they are not. Ratios of means, "
        "paired by query; 95 % by resampling videos."
    )
    yield f"Seeds: {', '.join(map(str, result['seeds']))}."
    yield from (f"LEFT OUT {line}" for line in result["left_out"])
    yield from (f"MISSING {line}" for line in result["missing"])

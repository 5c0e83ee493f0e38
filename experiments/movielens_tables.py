"""The results of `experiments.movielens` as tables: terminal, Markdown, JSON, figure 5 as SVG."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from experiments.movielens_gathering import RIVALS, SHOWN, contents_of
from experiments.movielens_paper import CROSSING, PROTOTYPE, TABLE_4, TABLE_5
from vidembed import files
from vidembed.report import charts

TITLES = {
    "t4": "T4: user models and histories, half of each user's ratings known",
    "t5": "T5 and figure 5: N ratings known of users that nothing was trained on",
    "ml100k": "MovieLens 100K, N ratings known of every user: the SVD row of T5",
    "cold": "Cold movies: 30 % of the movies are not known to anyone",
}
T5_COUNTS = ("10", "20", "50")
Rows = Sequence[Sequence[str]]


def print_tables(result: Mapping[str, Any]) -> None:
    """All tables on the terminal, and what there is to say of them."""
    console = Console(highlight=False)
    for title, header, rows in _tables(result):
        table = Table(title=title, title_justify="left", box=SIMPLE_HEAD)
        for place, name in enumerate(header):
            table.add_column(name, justify="right" if place else "left")
        for row in rows:
            table.add_row(*row)
        console.print(table)
    for line in _remarks(result):
        console.print(line, markup=False, soft_wrap=True)


def write_tables(result: Mapping[str, Any], folder: Path) -> Iterator[Path]:
    """Writes movielens.json and .md, and figure 5 for each metric."""
    files.write_json(folder / "movielens.json", dict(result))
    lines = []
    for title, header, rows in _tables(result):
        lines += [f"**{title}**", "", _line(header), _line(["---"] * len(header))]
        lines += [*map(_line, rows), ""]
    lines += [f"- {line}" for line in _remarks(result)]
    files.write_text(folder / "movielens.md", "\n".join(lines) + "\n")
    yield from (folder / "movielens.json", folder / "movielens.md")
    if of := result["tests"].get("t5"):
        for metric in SHOWN["t5"]:
            file = folder / f"movielens-figure5-{metric.partition('@')[0]}.svg"
            files.write_text(file, charts.standalone(figure_5(of["scores"], metric)))
            yield file


def figure_5(scores: Mapping[str, Any], metric: str) -> str:
    """Scores over the ratings known of a user, as SVG."""
    curves = []
    for number, name in enumerate(_curves(scores)):
        of = scores[name]
        one = charts.line([int(n) for n in of], [of[n][metric] for n in of], number)
        curves.append(
            charts.Line(x=one.x, y=one.y, low=one.low, high=one.high, series=number, name=name)
        )
    return charts.lines(f"{metric} over ratings a user", curves, below="ratings a user")


def _tables(result: Mapping[str, Any]) -> Iterator[tuple[str, Sequence[str], Rows]]:
    """Title, header and rows; a table of its own for each metric where it would grow too wide."""
    for test, of in result["tests"].items():
        scores, metrics, title = of["scores"], SHOWN[test], TITLES[test]
        if test == "cold":
            rows = [
                [
                    name,
                    *(_interval(one["cold"][m]) for m in metrics),
                    _quoted(of["deviation"].get(name)),
                    _quoted(PROTOTYPE.get(name)),
                ]
                for name, one in scores.items()
            ]
            yield title, ["", *metrics, f"{metrics[0]}: sd of seeds", "prototype"], rows
        for place, metric in enumerate(metrics if test == "t4" else ()):
            yield f"{title}: {metric}", *_by_history(scores, metric, place)
        for place, metric in enumerate(metrics if test in ("t5", "ml100k") else ()):
            counts = [n for n in T5_COUNTS if n in next(iter(scores.values()))]
            rows = [
                [name, *(_interval(one[n][metric]) for n in counts)] for name, one in scores.items()
            ]
            rows += [
                [f"the paper: {name}", *(_quoted(one[n][place], 4) for n in counts)]
                for name, one in TABLE_5.items()
            ]
            yield f"{title}: {metric}", ["", *(f"N = {n}" for n in counts)], rows
        if test == "t5":
            shown = _curves(scores)
            for metric in metrics:
                rows = [
                    [n, *(f"{scores[name][n][metric]['value']:.4f}" for name in shown)]
                    for n in scores[shown[0]]
                ]
                yield f"figure 5: {metric}", ["N", *shown], rows
        rows = [
            [pair, setting, *(_interval(one[metric], "+") for metric in metrics)]
            for pair, settings in of["differences"].items()
            for setting, one in settings.items()
            if test != "t5" or setting in ("2", *T5_COUNTS)
        ]
        if rows:
            yield f"{title}: paired differences", ["one - other", "", *metrics], rows


def _by_history(
    scores: Mapping[str, Any], metric: str, place: int
) -> tuple[Sequence[str], list[list[str]]]:
    """Header and rows of T4: a row for each user model and history, a column for each system."""
    systems = [name for name, one in scores.items() if len(one) > 1]
    rows = []
    for setting in scores[systems[0]]:
        each = (_interval(scores[name][setting][metric]) for name in systems)
        rows.append([setting, *each, _quoted(TABLE_4[setting][place], 4)])
    for name in (name for name in scores if name not in systems):
        (one,) = scores[name].values()
        rows.append([name, _interval(one[metric]), *[""] * len(systems)])
    return ["", *systems, "the paper"], rows


def _curves(scores: Mapping[str, Any]) -> list[str]:
    """The systems of figure 5 that there are."""
    contents = contents_of(scores)
    return [contents[0].replace("closed ", "raw "), *contents, *RIVALS]


def _quoted(value: float | None, digits: int = 3) -> str:
    return "" if value is None else f"{value:.{digits}f}"


def _remarks(result: Mapping[str, Any]) -> Iterator[str]:
    yield from result["notes"]
    for test, of in result["tests"].items():
        seconds = ", ".join(f"{one:.0f}" for one in of["seconds"])
        yield (
            f"{test}: means over seeds {', '.join(map(str, of['seeds']))} ({seconds} s); 95 % "
            "intervals by resampling users, the same in all seeds. Relevant and liked: "
            f"{of['liked']:g} or more"
        )
        for seed, about in of["about"].items():
            yield f"{test}, seed {seed}: {_told(about)}"
    leads = result["tests"].get("t5", {}).get("leads", {})
    for system, rival in ((system, rival) for system, of in leads.items() for rival in of):
        for metric, ranges in leads[system][rival].items():
            where = " and ".join(f"from N = {a:.1f} to {b:.1f}" for a, b in ranges) or "at no N"
            yield (
                f"figure 5, {metric}: {system} is above {rival} {where} (the paper: up to "
                f"{CROSSING[metric]:g})"
            )


def _told(about: Mapping[str, Any]) -> str:
    def one(value: Any) -> str:
        return f"({_told(value)})" if isinstance(value, Mapping) else f"{value:,}"

    return ", ".join(f"{name.replace('_', ' ')} {one(value)}" for name, value in about.items())


def _interval(one: Mapping[str, float], sign: str = "") -> str:
    return f"{one['value']:{sign}.4f} [{one['low']:{sign}.4f}, {one['high']:{sign}.4f}]"


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"

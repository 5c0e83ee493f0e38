"""The results of `experiments.movielens` as tables: terminal, Markdown, JSON, figure 5 as SVG."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from experiments.gathering import over_seeds
from experiments.movielens_paper import CROSSING, PROTOTYPE, TABLE_4, TABLE_5
from vidembed import files
from vidembed.metrics.intervals import bootstrap, differences
from vidembed.records.scores_file import Scores, read_scores
from vidembed.report import charts

SHOWN = {
    "t4": ("ndcg@10", "map"),
    "t5": ("ndcg@10", "map"),
    "ml100k": ("ndcg@10", "map"),
    "cold": ("auc", "ndcg@20"),
}
TITLES = {
    "t4": "T4: user models and histories, half of each user's ratings known",
    "t5": "T5 and figure 5: N ratings known of users that nothing was trained on",
    "ml100k": "MovieLens 100K, N ratings known of every user: the SVD row of T5",
    "cold": "Cold movies: 30 % of the movies are not known to anyone",
}
T5_COUNTS = ("10", "20", "50")
CONTENT, RIVALS = "cdml trailers, mean", ("svd", "svd, training users too")
"""Figure 5's curves; the paper's SVD knows the N ratings of each tried user alone."""
Rows = Sequence[Sequence[str]]


def gathered(folder: Path, seeds: Sequence[int] = ()) -> dict[str, Any]:
    """Test → means over seeds with 95 % intervals by resampling users, and what was said of each;
    ValueError where nothing was measured or seeds were measured otherwise."""
    result: dict[str, Any] = {"tests": {}}
    for test in SHOWN:
        found, about = dict[int, Scores](), dict[str, Any]()
        for stored in sorted((folder / "results").glob(f"{test}-seed*.json")):
            seed = int(stored.stem.partition("seed")[2])
            if not seeds or seed in seeds:
                about[f"{seed}"] = files.read_json(stored)
                found[seed] = read_scores(stored.with_suffix(".parquet"))
        keys = {seed: one["key"] for seed, one in about.items()}
        if len({str(key) for key in keys.values()}) > 1:
            raise ValueError(
                f"{folder}: the seeds {', '.join(keys)} of {test} were measured with different "
                "options or data: run those again with equal ones, or name --seeds"
            )
        if found:
            result["tests"][test] = _one(test, list(found.values())) | {
                "seeds": sorted(found),
                "seconds": [one["seconds"] for one in about.values()],
                "about": {seed: one["about"] for seed, one in about.items()},
                "liked": next(iter(keys.values()))["liked"],
                "recipe": next(iter(keys.values()))["recipe"],
            }
            first = next(iter(about.values()))
            result |= {"notes": first["notes"], "versions": first["versions"]}
    if not result["tests"]:
        raise ValueError(f"{folder} holds no results: `run` comes first")
    return result


def _one(test: str, seeds: Sequence[Scores]) -> dict[str, Any]:
    """scores: system → setting → metric → {value, low, high}; what is compared beside it."""
    scores = {system: over_seeds(seeds, system, by=bootstrap) for system in seeds[0]}
    if test != "t5":
        return {"scores": scores, "differences": _compared(seeds, test)}
    curves = {r: over_seeds(seeds, CONTENT, r, by=differences) for r in RIVALS}
    crossings = {
        rival: {
            metric: crossing([int(n) for n in of], [of[n][metric]["value"] for n in of])
            for metric in SHOWN[test]
        }
        for rival, of in curves.items()
    }
    return {"scores": scores, "differences": _compared(seeds, test), "crossings": crossings}


def _compared(seeds: Sequence[Scores], test: str) -> dict[str, Any]:
    """`one - other` → setting → metric → interval, paired by user: CDML against raw features and
    the ridge on the same features; in T4 max against mean; in T5 CDML against the SVDs."""
    systems, pairs = seeds[0], []
    for system in systems:
        if system.startswith("cdml "):
            rest = system.removeprefix("cdml ")
            pairs += [(system, f"{kind} {rest}") for kind in ("raw", "ridge")]
            pairs += [(system, rival) for rival in RIVALS if test == "t5"]
    found = {f"{a} - {b}": over_seeds(seeds, a, b, by=differences) for a, b in pairs}
    for system, settings in systems.items() if test == "t4" else ():
        histories = [name.removeprefix("max ") for name in settings if name.startswith("max ")]
        models = [
            {model: {h: of[system][f"{model} {h}"] for h in histories} for model in ("max", "mean")}
            for of in seeds
        ]
        if histories:
            both = over_seeds(models, "max", "mean", by=differences)
            found[f"{system}: max - mean"] = both
    return found


def crossing(counts: Sequence[float], lead: Sequence[float]) -> float | None:
    """Where a curve's lead over another first falls to zero, between points linearly: 0 where there
    is none to begin with, None where it never falls so far."""
    if lead[0] <= 0:
        return 0.0
    for place in range(len(lead) - 1):
        if lead[place + 1] <= 0:
            share = lead[place] / (lead[place] - lead[place + 1])
            return float(counts[place] + share * (counts[place + 1] - counts[place]))
    return None


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
                [name, *(_interval(one["cold"][m]) for m in metrics), _quoted(PROTOTYPE.get(name))]
                for name, one in scores.items()
            ]
            yield title, ["", *metrics, "prototype's AUC"], rows
        for place, metric in enumerate(metrics if test == "t4" else ()):
            yield f"{title}: {metric}", *_by_history(scores, metric, place)
        for place, metric in enumerate(metrics if test in ("t5", "ml100k") else ()):
            rows = [
                [name, *(_interval(one[n][metric]) for n in T5_COUNTS)]
                for name, one in scores.items()
                if one.keys() >= set(T5_COUNTS)
            ]
            rows += [
                [f"the paper: {name}", *(_quoted(one[n][place], 4) for n in T5_COUNTS)]
                for name, one in TABLE_5.items()
            ]
            yield f"{title}: {metric}", ["", *(f"N = {n}" for n in T5_COUNTS)], rows
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
    for name in scores.keys() - set(systems):
        (one,) = scores[name].values()
        rows.append([name, _interval(one[metric]), *[""] * len(systems)])
    return ["", *systems, "the paper"], rows


def _curves(scores: Mapping[str, Any]) -> list[str]:
    """The systems of figure 5 that there are."""
    return [name for name in (CONTENT, "raw trailers, mean", *RIVALS) if name in scores]


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
    for rival, of in result["tests"].get("t5", {}).get("crossings", {}).items():
        for metric, where in of.items():
            lead = (
                "at every N" if where is None else f"below N = {where:.1f}" if where else "nowhere"
            )
            yield (
                f"figure 5, {metric}: {CONTENT} is above {rival} {lead} (the paper: below "
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

"""The results of `experiments.annotation` as tables, with paired differences."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from experiments.annotation_points import (
    BASELINES_OF,
    EPOCHS,
    GROUPS,
    RESAMPLES,
    Training,
    trainings,
)
from experiments.annotation_runs import (
    ALL,
    METRICS,
    PART,
    Measured,
    Titled,
    as_json,
    interval_text,
)
from experiments.annotation_runs import measured as measured_run
from experiments.paper import TABLE_6
from vidembed.metrics.multilabel_intervals import bootstrap, differences
from vidembed.workdir.layout import Workdir
from vidembed.workdir.versions import versions

TITLES = {
    "inputs": "Figure 6: inputs (SIMULATED sessions behind cdml, gcml and gcl)",
    "forms": "Forms of the input, visual + audio",
    "experts": "Experts per class, visual + audio",
    "phases": "Phases that go on from visual + audio",
    "halves": "SIMULATED sessions from half of the classes, measured on the other half",
}
COMPARED = {
    "visual+audio": "visual",
    "visual+audio, equal size": "visual+audio",
    "visual+audio+cdml": "visual+audio",
    "visual+audio+gcml": "visual+audio",
    "visual+audio+gcl": "visual+audio",
    "visual+audio+permuted cdml": "visual+audio",
    "visual+audio, unit blocks": "visual+audio",
    "visual+audio+cdml, unit blocks": "visual+audio, unit blocks",
    "joint norm (Eq. 7)": "visual+audio",
    "no norm": "visual+audio",
    "whitened, unit blocks": "visual+audio",
    "standardised features": "visual+audio",
    "biases from zero": "visual+audio",
    "biases from zero, 60 passes": "biases from log-odds, 60 passes",
    "H = 1, biases from zero, 160 passes": "H = 1",
    "H = 1": "visual+audio",
    "H = 5": "visual+audio",
    "H = 10": "visual+audio",
    "frequent classes, H = 30": "frequent classes, H = 2",
    "frequent classes, H = 100": "frequent classes, H = 2",
    "RPROP on A": "visual+audio",
    "RPROP on A, large first step": "visual+audio",
    "RPROP on A, 50 steps": "visual+audio",
    "Adam on A": "visual+audio",
    "Adam on all, as long": "visual+audio",
    "RPROP on A, then on experts": "RPROP on A",
    "20 passes": "visual+audio",
} | {
    f"other half of the classes: visual+audio+cdml-half, {form}": (
        f"other half of the classes: visual+audio, {form}"
    )
    for form in ("blocks of components", "unit blocks")
}
"""Training → the one that it is compared with, paired by video."""


def gathered(folder: Path) -> dict[str, Any]:
    """All results so far, as JSON values; raises ValueError if there are none."""
    seeds = sorted(int(path.name[4:]) for path in folder.glob("seed*") if path.name[4:].isdecimal())
    measured: dict[str, dict[int, Measured]] = {}
    every = {t.name: t for t in trainings(GROUPS, first=True)}
    for seed in seeds:
        for name in every:
            if (
                result := measured_run(Workdir(folder / f"seed{seed}" / name), RESAMPLES)
            ) is not None:
                measured.setdefault(name, {})[seed] = result
    if BASELINES_OF not in measured:
        raise ValueError(
            f"{folder} holds no finished results: begin with `python -m experiments.annotation run "
            f"--workdir {folder}`"
        )
    return {
        "simulated_sessions": True,
        "seeds": seeds,
        "rows": [_row(every[name], measured) for name in every if name in measured],
        "missing": [name for name in every if name not in measured],
        "popularity": _means(measured[BASELINES_OF], "popularity"),
        "fingerprints": {
            f"{name}, seed {seed}": of.fingerprint
            for name, by_seed in measured.items()
            for seed, of in by_seed.items()
        },
        "paper": TABLE_6,
        "versions": versions(),
    }


def _row(training: Training, measured: Mapping[str, Mapping[int, Measured]]) -> dict[str, Any]:
    """Means over seeds on test videos with intervals, and the difference to another training."""
    own = measured[training.name]
    row: dict[str, Any] = {
        "name": training.name,
        "group": training.group,
        "seeds": list(own),
        "scores": as_json(bootstrap([of.per_video for of in own.values()], seed=0)),
        ALL: _means(own, "scores"),
    }
    if training.every:
        row["curve"] = {
            training.every * number: scores[f"{PART}/gap@20"]["value"]
            for number, scores in enumerate(next(iter(own.values())).curve.values(), start=1)
        }
    other = COMPARED.get(training.name, "")
    if other in measured and (both := [seed for seed in own if seed in measured[other]]):
        pairs = ([of[seed].per_video for seed in both] for of in (own, measured[other]))
        row |= {"minus": other, "difference": as_json(differences(*pairs, seed=0))}
    return row


def _means(by_seed: Mapping[int, Measured], of: str) -> dict[str, float]:
    """Metric → mean over seeds on all held-out videos."""
    return {
        metric: sum(getattr(m, of)[f"{ALL}/{metric}"]["value"] for m in by_seed.values())
        / len(by_seed)
        for metric in METRICS
    }


def tables(result: Mapping[str, Any]) -> Iterator[Titled]:
    """One table per group that has results."""
    header = ["training", "GAP@20", "all", "MAP", "Hit@1", "GAP@20 minus", "that of"]
    for group, title in TITLES.items():
        rows = [_line_of(row) for row in result["rows"] if row["group"] == group]
        if rows:
            yield title, header, rows
    if curves := [row for row in result["rows"] if row.get("curve")]:
        passes = sorted({int(p) for row in curves for p in row["curve"]})
        yield (
            "Learning curves: GAP@20 of test videos by passes",
            ["training", *map(str, passes)],
            [[row["name"], *(_cell(row["curve"], p) for p in passes)] for row in curves],
        )


def _cell(curve: Mapping[int, float], passes: int) -> str:
    return f"{curve[passes]:.4f}" if passes in curve else ""


def _line_of(row: Mapping[str, Any]) -> list[str]:
    name, scores, seeds = row["name"], row["scores"], len(row["seeds"])
    minus = interval_text(row["difference"]["gap@20"], sign=True) if "minus" in row else ""
    others = (f"{scores[metric]['value']:.3f}" for metric in ("map_per_class@20", "hit@1"))
    return [
        name if seeds == 1 else f"{name} ({seeds} seeds)",
        interval_text(scores["gap@20"]),
        f"{row[ALL]['gap@20']:.4f}",
        *others,
        minus,
        row.get("minus", ""),
    ]


def remarks(result: Mapping[str, Any]) -> Iterator[str]:
    """What there is to say of the tables."""
    yield (
        "On test videos, two thirds of what the hash leaves out of training; all: with the third "
        "for validation, too. MAP: per class, of the 20 best classes of each video. Trained for "
        f"{EPOCHS} passes, each rounded up to whole batches (phases: as named). Intervals resample "
        "videos; differences are paired by video."
    )
    yield "Sessions behind cdml, gcml and gcl are SIMULATED from the labels of videos."
    popularity = result["popularity"]["gap@20"]
    yield f"Popularity, all held out: GAP@20 {popularity:.4f}."
    quoted = ", ".join(f"{name} {value:.4f}" for name, value in result["paper"].items())
    yield f"The paper's table 6, on the whole of YouTube-8M (quoted): {quoted}."
    if result["missing"]:
        yield f"Not run: {'; '.join(result['missing'])}."

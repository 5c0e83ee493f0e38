"""Tables of ProViCo's measurements: scores, and differences paired by clip."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from experiments.annotation_runs import Titled, interval_text
from experiments.clips_rows import INFO_NCE, PROVICO, Row, claims
from experiments.clips_runs import Runs
from experiments.clips_scores import Scores, mean_of, paired
from vidembed.evaluators.clip_scores import PROBE, SAME_SOURCE
from vidembed.workdir.versions import versions

METRICS = ("r@1", "r@5", "r@10", "r@20", "r@50", SAME_SOURCE, PROBE)
OF_PAIR = (f"pair/{PROBE}",)
COMPARED = ("r@1", SAME_SOURCE, PROBE, *OF_PAIR)
CHANCE = "chance"


def gathered(
    runs: Runs, rows: Sequence[Row], seeds: Sequence[int], chosen: Mapping[str, float]
) -> dict[str, Any]:
    """All that the tables show, as JSON values, of what is measured."""
    raw = (f"raw {name}" for name in ("features", "motion", "both", "pixels"))
    controls = [name for key in raw for name in (key, f"{key}, standardised")]
    systems = {
        key: of for key in (*controls, "colour histogram") if (of := scores_of(runs, key, (0,)))
    }
    names = {key: key for key in systems}
    lacking, against = [], dict[str, tuple[str, str]]()
    for row in rows:
        of_input = "raw pixels" if runs.decoded else f"raw {row.input}"
        for key in (row.untrained, row.key):
            if key and (of := scores_of(runs, key, seeds)):
                systems[key], names[key] = of, row.name if key == row.key else key
                against[key] = row.beside if key == row.key else "", of_input
        lacking += [row.name] * (row.key not in systems)
    systems[CHANCE], names[CHANCE] = [runs.chance()], CHANCE

    def minus(one: str, other: str) -> dict[str, Any]:
        both = paired(systems[one], systems[other], runs.known, runs.of_pair)
        return {name: interval._asdict() for name, interval in both.items()}

    blocks = {row.key: row.block for row in rows}
    return {
        "simulated": runs.corpus("features").simulated,
        "decoded": runs.decoded,
        "seeds": list(seeds),
        "names": names,
        "blocks": {key: blocks.get(key, "controls") for key in names},
        "scores": {key: _seeds(of) for key, of in systems.items()},
        "rates": dict(chosen),
        "about": {r.key: [runs.about(r.key, s) for s in seeds] for r in rows if r.key in systems},
        "minus_deterministic": {
            key: minus(key, other)
            for key, (other, _) in against.items()
            if other in systems and other != key
        },
        "minus_raw": {key: minus(key, raw) for key, (_, raw) in against.items() if raw in systems},
        "claims": [
            {"claim": claim, "one": one, "other": other, "difference": minus(one, other)}
            for claim, one, other in claims(chosen)
            if one in systems and other in systems
        ],
        "lacking": lacking,
        "versions": versions(),
    }


def scores_of(runs: Runs, key: str, seeds: Sequence[int]) -> list[Scores]:
    """The scores of all seeds; none unless all are there."""
    of_seeds = [runs.scores(key, seed) for seed in seeds]
    return [of for of in of_seeds if of is not None] if None not in of_seeds else []


def tables(result: Mapping[str, Any]) -> Iterator[Titled]:
    """Titles, headers and rows."""
    names, title = result["names"], "SIMULATED clips. " if result["simulated"] else ""
    title += "Decoded clips, a test of plumbing. " if result["decoded"] else ""
    pair = OF_PAIR if any(OF_PAIR[0] in of for of in result["scores"].values()) else ()
    metrics = [*METRICS, *pair]
    rows = [
        [
            result["blocks"][key], names[key], *(_cell(of.get(name, ())) for name in metrics),
            f"{result['rates'][key]:g}" if key in result["rates"] else "",
        ]
        for key, of in result["scores"].items()
    ]  # fmt: skip
    many = f"means over {len(result['seeds'])} seeds ± half their range"
    yield f"{title}Test clips; {many}", ["", "system", *metrics, "rate"], rows
    compared = [*COMPARED[:3], *pair]
    for part, other in (("deterministic", "InfoNCE of the same input"), ("raw", "its raw input")):
        rows = [
            [names[key], *(interval_text(of[name], sign=True) for name in compared)]
            for key, of in result[f"minus_{part}"].items()
        ]
        if rows:
            yield f"{title}Minus {other}, paired by clip", ["system", *compared], rows
    rows = [
        [
            of["claim"], names[of["one"]], names[of["other"]],
            *(interval_text(of["difference"][name], sign=True) for name in compared),
        ]
        for of in result["claims"]
    ]  # fmt: skip
    if rows:
        yield f"{title}Claims", ["claim", "one", "minus", *compared], rows


def remarks(result: Mapping[str, Any], counts: Mapping[str, int], sources: int) -> Iterator[str]:
    """How it was measured."""
    if result["simulated"]:
        yield "The clips are SIMULATED: made by a program."
    yield (
        f"{counts['test']} test clips against {counts['train']} train clips of other sources, of "
        f"{sources} sources in all. r@k: a clip of the same class is among the k nearest train "
        "clips by cosine. same_source: the nearest other test clip is of the same source. probe: "
        "accuracy of logistic regression. pair: the two classes alone. Intervals resample sources, "
        "with each clip's mean over the seeds, so that they do not show how trainings differ."
    )
    yield (
        "The learning rate of each row is the best of its trainings on fewer train clips, "
        f"{counts['of_train_to_choose']} of other sources being for validation (mean of R@1 and "
        "probe, seed 0; a training that warns of its variances is not chosen). Then all train "
        "clips are learnt from, and test clips are measured once."
    )
    if any(key[0].isdigit() for key in result["scores"]):
        yield (
            "With fewer train clips to learn from, search and probe still use all of them, so that "
            "raw features do not change."
        )
    about = [each for of in result["about"].values() for each in of]
    seconds = [each["seconds"] for each in about if "seconds" in each]
    if seconds:
        yield (
            f"{len(seconds)} measured trainings took {np.median(seconds):.1f} s in the median "
            f"(at most {max(seconds):.1f} s), with the embedding of all clips."
        )
    for key in (PROVICO, INFO_NCE):
        logged = [each for each in result["about"].get(key, ()) if "within" in each]
        if logged:
            of = {n: float(np.mean([each[n] for each in logged])) for n in ("within", "between")}
            yield (
                f"{result['names'][key]}: at the end the variance within a clip is "
                f"{of['within']:.3g}, and between the clips of a video {of['between']:.3g}."
            )
    for name in result["lacking"]:
        yield f"{name}: not measured, or a training failed (see its log)."


def _seeds(of: Sequence[Scores]) -> dict[str, list[float]]:
    """Metric → its value for each seed."""
    parts = (("clips", ""), ("source", ""), ("pair", "pair/"))
    return {
        prefix + name: [float(getattr(each, part)[name].mean()) for each in of]
        for part, prefix in parts
        for name in mean_of(of, part)
    }


def _cell(values: Sequence[float]) -> str:
    if not values:
        return ""
    half = f" ± {(max(values) - min(values)) / 2:.3f}" if len(values) > 1 else ""
    return f"{np.mean(values):.3f}{half}"

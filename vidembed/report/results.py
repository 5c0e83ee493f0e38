"""What a summary says, in the order and words of the page: systems, ratios, controls."""

from collections.abc import Mapping, Sequence
from typing import Any

from vidembed.report import charts, wording
from vidembed.report.headline import headline
from vidembed.report.wording import is_number

BOUNDS = ("trained_exchanged", "popularity", "random")
"""The systems that do not rank by what a video is: no rivals, but bounds."""
FEATURES = ("visual", "audio", "concatenated")
"""How the names of systems begin that are features as they are, or standardised."""


def panels(related_videos: Mapping[str, Any], *, best: bool = True) -> list[dict[str, Any]]:
    """One for each direction: a chart of its headline, a table with a row a system.

    `best` marks the highest content-based system of each metric.
    """
    return [
        {
            "direction": direction,
            "main": headline(direction, _metrics(systems)),
            "validation": direction.startswith(wording.VALIDATION),
            "oracle": bool(wording.oracles([direction])),
            "chart": _dots(direction, systems),
            "metrics": _metrics(systems),
            "rows": _rows(direction, systems, best=best),
        }
        for direction, systems in related_videos.items()
        if systems
    ]


def headlines(summary: Mapping[str, Any]) -> list[dict[str, str]]:
    """The few numbers that stand on top: `value`, what it is (`name`), `note`."""
    found = []
    targets = summary.get("targets") or {}
    for direction, ratio in (summary.get("ratio_to_visual") or {}).items():
        each = [f"{one:.2f}" for one in ratio.get("per_seed") or () if is_number(one)]
        notes = [f"each seed: {', '.join(each)}"] if each else []
        if is_number(ratio.get("low")) and is_number(ratio.get("high")):
            notes.insert(0, f"95 %: {ratio['low']:.2f} to {ratio['high']:.2f}")
        mean, aim = ratio.get("mean"), targets.get(direction)
        if is_number(aim) and is_number(mean):
            notes.append(f"aim {aim:.2f}: {'reached' if mean >= aim else 'missed'}")
        value = f"{wording.score(mean)} ×" if is_number(mean) else wording.ABSENT
        main = ratio.get("metric") or headline(direction, ())
        name = f"raw visual {wording.metric(main)}, {wording.direction(direction)}"
        found.append({"value": value, "name": name, "note": "; ".join(notes)})
    seconds = [s for s in (summary.get("seconds") or {}).values() if is_number(s)]
    if seconds:
        note = f"the sum of {len(seconds)} stages"
        found.append({"value": wording.duration(sum(seconds)), "name": "all stages", "note": note})
    if is_number(summary.get("peak_memory_bytes")):
        memory = wording.memory(summary["peak_memory_bytes"])
        found.append({"value": memory, "name": "peak memory", "note": ""})
    return found


def run_headlines(
    evaluations: Mapping[str, Sequence[Mapping[str, Any]]],
    related_videos: Mapping[str, Any],
    step: int | None,
) -> list[dict[str, str]]:
    """The same for a single run: the test scores of a checkpoint, the last where `step` is None,
    each with the best raw features and the closed form where these were measured."""
    measured = [checkpoints for checkpoints in evaluations.values() if checkpoints]
    if len(measured) != 1:
        return []
    last = max(measured[0], key=lambda result: result["step"])
    result = next((result for result in measured[0] if result["step"] == step), last)
    shown, *_ = wording.by_part(result["scores"]).values()
    return [
        {
            "value": wording.score(interval.get("value")),
            "name": wording.measured(name),
            "note": "; ".join(
                [
                    f"{wording.score(interval.get('low'))}–{wording.score(interval.get('high'))} "
                    f"at step {wording.number(result['step'])}",
                    *_baselines(related_videos, name),
                ]
            ),
        }
        for name in shown
        for interval in [result["scores"][name]]
    ]


def _baselines(related_videos: Mapping[str, Any], name: str) -> list[str]:
    """What the best raw features and the closed form score, in words; nothing where not known."""
    direction, _, metric = name.rpartition("/")
    systems = related_videos.get(direction) or {}
    known: dict[str, float] = {
        system: of[metric]["value"]
        for system, of in systems.items()
        if metric in of and is_number(of[metric].get("value"))
    }
    features = {system: value for system, value in known.items() if system.startswith(FEATURES)}
    best = max(features, key=features.__getitem__, default="")
    beside = [
        f"{wording.system(system)} {wording.score(known[system])}"
        for system in (best, "closed_form")
        if system in known
    ]
    return [f"without training: {', '.join(beside)}"] if beside else []


def control(
    permuted: Mapping[str, Any], differences: Sequence[Mapping[str, Any]]
) -> list[dict[str, Any]]:
    """The panels of the control, each with differences of systems and whether they are seen.

    differences: {one, other, difference: direction → metric → {value, low, high}}, one minus other.
    """
    found = []
    for panel in panels(permuted, best=False):
        verdicts = []
        for pair in differences:
            found_here = (pair["difference"].get(panel["direction"]) or {}).get(panel["main"])
            if found_here and all(map(is_number, found_here.values())):
                none = found_here["low"] <= 0 <= found_here["high"]
                verdicts.append(
                    {
                        "one": wording.system(pair["one"]),
                        "other": wording.system(pair["other"]),
                        "difference": found_here,
                        "finding": "no difference seen" if none else "they differ",
                    }
                )
        found.append({**panel, "verdicts": verdicts})
    return found


def _metrics(systems: Mapping[str, Any]) -> list[str]:
    return list(dict.fromkeys(name for metrics in systems.values() for name in metrics))


def _rows(direction: str, systems: Mapping[str, Any], *, best: bool) -> list[dict[str, Any]]:
    metrics = _metrics(systems)
    marked = {metric: _best(systems, metric) if best else None for metric in metrics}
    return [
        {
            "name": wording.system(name, direction),
            "cells": [
                {"interval": systems[name].get(metric) or {}, "best": marked[metric] == name}
                for metric in metrics
            ],
        }
        for name in wording.in_order(systems)
    ]


def _best(systems: Mapping[str, Any], metric: str) -> str | None:
    values: dict[str, float] = {}
    for name in [name for name in wording.SYSTEMS if name not in BOUNDS]:
        value = (systems.get(name) or {}).get(metric, {}).get("value")
        if is_number(value):
            values[name] = value
    return max(values, key=values.__getitem__) if len(values) > 1 else None


def _dots(direction: str, systems: Mapping[str, Any]) -> str | None:
    main = headline(direction, _metrics(systems))
    dots = []
    for name in wording.in_order(systems):
        series = 0 if name.startswith("trained") else None
        score = systems[name].get(main) or {}
        dots += charts.dot(wording.system(name, direction), score, series)
    title = f"{wording.metric(main)} of each system, {wording.direction(direction)}"
    return charts.dots(title, dots) if dots else None

"""Turn a summary into the page's tables and sentences: systems, ratios, controls."""

from collections.abc import Mapping, Sequence
from typing import Any

from vidembed.report import charts, wording
from vidembed.report.headline import headline, on_top
from vidembed.report.wording import is_number

BOUNDS = ("trained_exchanged", "popularity", "random", "chance")
"""Systems that do not rank by content: bounds, not competitors."""
NOT_FEATURES = (*BOUNDS, "trained", "untrained", "composite", "closed_form", "ridge_", "svd_")
"""Name prefixes of the systems that are not raw or standardised features."""


def panels(related_videos: Mapping[str, Any], *, best: bool = True) -> list[dict[str, Any]]:
    """One panel per direction: a chart of its main metric, and a table with one row per system.

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
    """The few numbers at the top of the page: `value`, `name`, `note`."""
    shown = []
    targets = summary.get("targets") or {}
    for direction, ratio in (summary.get("ratio_to_visual") or {}).items():
        each = [f"{r:.2f}" for r in ratio.get("per_seed") or () if is_number(r)]
        notes = [f"each seed: {', '.join(each)}"] if each else []
        if is_number(ratio.get("low")) and is_number(ratio.get("high")):
            notes.insert(0, f"95 %: {ratio['low']:.2f} to {ratio['high']:.2f}")
        mean, aim = ratio.get("mean"), targets.get(direction)
        if is_number(aim) and is_number(mean):
            notes.append(f"aim {aim:.2f}: {'reached' if mean >= aim else 'missed'}")
        value = f"{wording.score(mean)} ×" if is_number(mean) else wording.ABSENT
        main = ratio.get("metric") or headline(direction, ())
        name = f"raw visual {wording.metric(main)}, {wording.direction(direction)}"
        shown.append({"value": value, "name": name, "note": "; ".join(notes)})
    seconds = [s for s in (summary.get("seconds") or {}).values() if is_number(s)]
    if seconds:
        note = f"the sum of {len(seconds)} stages"
        shown.append({"value": wording.duration(sum(seconds)), "name": "all stages", "note": note})
    if is_number(summary.get("peak_memory_bytes")):
        memory = wording.memory(summary["peak_memory_bytes"])
        shown.append({"value": memory, "name": "peak memory", "note": ""})
    return shown


def run_headlines(
    evaluations: Mapping[str, Sequence[Mapping[str, Any]]],
    related_videos: Mapping[str, Any],
    step: int | None,
) -> list[dict[str, str]]:
    """The numbers at the top for a single run: test scores of a checkpoint (the last if `step` is
    None), each with those of the best raw features and the closed form, if measured; for predicted
    labels, with those of other parts of the videos, and the baselines."""
    measured = [checkpoints for checkpoints in evaluations.values() if checkpoints]
    if len(measured) != 1:
        return []
    last = max(measured[0], key=lambda result: result["step"])
    result = next((result for result in measured[0] if result["step"] == step), last)
    return [
        {
            "value": wording.score(interval.get("value")),
            "name": wording.measured(name),
            "note": "; ".join(
                [
                    f"{wording.score(interval.get('low'))}–{wording.score(interval.get('high'))} "
                    f"at step {wording.number(result['step'])}",
                    *_other_parts(result["scores"], name),
                    *_baselines(related_videos, name),
                ]
            ),
        }
        for name in on_top(result["scores"])
        for interval in [result["scores"][name]]
    ]


def _other_parts(scores: Mapping[str, Any], name: str) -> list[str]:
    """The same metric on other parts of the videos, in words; empty if there are none."""
    part, _, metric = name.rpartition("/")
    others = [
        f"{wording.direction(other)} {wording.score(scores[f'{other}/{metric}'].get('value'))}"
        for other in wording.PARTS
        if other != part and wording.is_part(name) and f"{other}/{metric}" in scores
    ]
    return [", ".join(others)] if others else []


def _baselines(related_videos: Mapping[str, Any], name: str) -> list[str]:
    """The scores of the best raw features and the closed form, in words; for predicted labels, of
    all baselines; empty if unknown."""
    direction, _, metric = name.rpartition("/")
    systems = related_videos.get(direction) or {}
    known: dict[str, float] = {
        system: scores[metric]["value"]
        for system, scores in systems.items()
        if metric in scores and is_number(scores[metric].get("value"))
    }
    features = {s: value for s, value in known.items() if not s.startswith(NOT_FEATURES)}
    best = max(features, key=features.__getitem__, default="")
    baselines = [
        f"{wording.system(system)} {wording.score(known[system])}"
        for system in (wording.in_order(known) if wording.is_part(name) else (best, "closed_form"))
        if system in known and system != "trained"
    ]
    return [f"without training: {', '.join(baselines)}"] if baselines else []


def control(
    permuted: Mapping[str, Any], differences: Sequence[Mapping[str, Any]]
) -> list[dict[str, Any]]:
    """The panels of the control, each with verdicts on the differences between systems.

    differences: {one, other, difference: direction → metric → {value, low, high}}, one minus other.
    """
    controls = []
    for panel in panels(permuted, best=False):
        verdicts = []
        for pair in differences:
            interval = (pair["difference"].get(panel["direction"]) or {}).get(panel["main"])
            if interval and all(map(is_number, interval.values())):
                none = interval["low"] <= 0 <= interval["high"]
                verdicts.append(
                    {
                        "one": wording.system(pair["one"]),
                        "other": wording.system(pair["other"]),
                        "difference": interval,
                        "finding": "no difference detected" if none else "they differ",
                    }
                )
        controls.append({**panel, "verdicts": verdicts})
    return controls


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

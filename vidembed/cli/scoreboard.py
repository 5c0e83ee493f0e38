"""Print the scores of a measured checkpoint to the terminal, beside those of the baselines."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any

from vidembed.engine.measured import Job, Measured
from vidembed.evaluators.baselines import CLOSED_FORM
from vidembed.report import wording
from vidembed.report.headline import headline

NOT_RAW = ("popularity", "random", "chance", CLOSED_FORM, "ridge_", "svd_", "als", "bpr")
"""Prefixes of the names of baselines other than raw features."""


class Scoreboard:
    """Prints the results of a run one by one: scores before they are written, the rest afterwards.

    The table of baselines follows the first result and the result of the run's last step. Every
    host must call `show`, because it measures the baselines if they are not measured yet.
    """

    def __init__(self, job: Job, *, baselines: bool = True) -> None:
        self.job, self.baselines = job, baselines
        self._shown = False
        self._printed: set[tuple[Measured, int]] = set()
        job.computed = self._scores

    def _scores(self, measured: Measured, result: Mapping[str, Any]) -> None:
        """Prints the scores of a result once."""
        if (measured, result["step"]) not in self._printed:
            self._printed.add((measured, result["step"]))
            for line in score_lines(result):
                self.job.progress.say(line)

    def show(self, results: Sequence[Mapping[str, Any]]) -> None:
        """Prints the results of `Job.measure`."""
        for measured, result in zip(self.job.each, results):
            self._show(measured, result)
        self._shown = True

    def _show(self, measured: Measured, result: Mapping[str, Any]) -> None:
        say = self.job.progress.say
        self._scores(measured, result)
        if measured is self.job.selecting:
            name, value = measured.selection(result)
            best = measured.measurements.best() or {}
            score = f"{wording.in_words(name)}: {value:.4f}"
            say(f"step {result['step']}  {score}; best so far: step {best.get('step')}")
        if not self.baselines:
            return
        last, shown = self.job.last_step(), list[bool]()

        def show(record: Mapping[str, Any]) -> None:
            shown.append(True)
            for line in table(result, record):
                say(line)

        record = measured.baselines(show)
        if not record["systems"]:
            return
        if not shown and (not self._shown or result["step"] == last):
            show(record)
        if remark := below_raw(result, record, last=last):
            say(remark)


def score_lines(result: Mapping[str, Any]) -> Iterator[str]:
    """The number of queries, and every score with its interval."""
    simulated = " (simulated data)" if result["simulated_sessions"] else ""
    for direction, counts in result["queries"].items():
        if not {"queries", "left_out"} <= counts.keys():
            continue
        reasons = [
            f"{n:,} {why}" for why, n in counts.items() if why not in ("queries", "left_out")
        ]
        left_out = reasons or [f"{counts['left_out']:,} videos without relevant videos"]
        yield (
            f"step {result['step']}  {wording.direction(direction)}: "
            f"{counts['queries']:,} queries; "
            f"left out: {', '.join(left_out)}"
        )
    names = {name: wording.measured(name) for name in result["scores"]}
    width = max([28, *map(len, names.values())])
    for name, score in result["scores"].items():
        yield (
            f"step {result['step']}  {names[name]:{width}} {score['value']:.4f} "
            f"[{score['low']:.4f}, {score['high']:.4f}]{simulated}"
        )


def table(result: Mapping[str, Any], baselines: Mapping[str, Any]) -> Iterator[str]:
    """The run and its baselines, by the headline metric of each direction; 80 columns wide.

    With validation videos: one table for the test videos, then one for the validation videos.
    """
    if not (metrics := _headlines(result)):
        return
    for part, directions in wording.by_part(metrics).items():
        yield from _table(result, baselines, part, {name: metrics[name] for name in directions})
    if wording.oracles(metrics):
        yield "* an oracle: it counts future sessions"


def _table(
    result: Mapping[str, Any], baselines: Mapping[str, Any], part: str, metrics: Mapping[str, str]
) -> Iterator[str]:
    rows = {f"this run, step {result['step']}": _cells(result["scores"], metrics)}
    rows |= {
        wording.system(name): _cells(baselines["systems"][name], metrics)
        for name in wording.in_order(baselines["systems"])
    }
    simulated = "SIMULATED data" if result["simulated_sessions"] else ""
    heads = [wording.metric(metric) for metric in metrics.values()]
    bare = [wording.direction(direction.removeprefix(wording.VALIDATION)) for direction in metrics]
    width = max(14, *(len(head) + 2 for head in heads))
    yield _line(simulated, heads, width)
    yield _line(f"{part} videos" if part else "", bare, width)
    oracles = wording.oracles(metrics)
    for name, cells in rows.items():
        marked = oracles if name == wording.system("popularity") else []
        values = (
            f"{wording.score(value)}{'*' if direction in marked else ' '}"
            for direction, value in cells.items()
        )
        yield _line(name, values, width)


def below_raw(result: Mapping[str, Any], baselines: Mapping[str, Any], *, last: int) -> str | None:
    """The message for a run that scores below raw features or, at its end, below the closed form;
    None if it does not.

    Uses validation scores if there are any: choosing by test scores would bias them.
    """
    metrics = _headlines(result)
    *_, directions = [(), *wording.by_part(metrics).values()]
    metrics = {direction: metrics[direction] for direction in directions}
    mine = _cells(result["scores"], metrics)
    systems = {name: _cells(of, metrics) for name, of in baselines["systems"].items()}
    raw = {name: of for name, of in systems.items() if not name.startswith(NOT_RAW)}
    solved = {name: of for name, of in systems.items() if name == CLOSED_FORM}
    below = partial(_below, mine, metrics)
    if deficits := below(raw):
        message = f"step {result['step']} is below raw features: {deficits}"
        if result["step"] < last:
            return f"{message} ({last - result['step']:,} steps are left)"
        return (
            f"WARNING: {message}. The untrained features retrieve better than this embedding. "
            "Check loss and spread in metrics.jsonl; try more --steps, another "
            "--optimiser.learning-rate, or fewer and more reliable relations (cowatch "
            "--min-weight); or use the closed form, which needs no training (vidembed train linear)"
        )
    # 1e-4: a run of the closed form itself equals its baseline up to rounding.
    if result["step"] < last or not (deficits := below(solved, by=1e-4)):
        return None
    return (
        f"step {result['step']} is below the closed form: {deficits}. That takes seconds to solve "
        "(vidembed train linear), and both combined may be better than either (vidembed compose)"
    )


def _below(
    mine: Mapping[str, float],
    metrics: Mapping[str, str],
    others: Mapping[str, Mapping[str, float]],
    by: float = 0.0,
) -> str:
    """Describe where a run is below the best of the others; "" if it is nowhere."""
    deficits = []
    for direction, metric in metrics.items() if others else ():
        best = max(others, key=lambda name: others[name][direction])
        if mine[direction] < others[best][direction] - by:
            deficits.append(
                f"{wording.metric(metric)} {wording.direction(direction)} is "
                f"{mine[direction]:.3f}, that of {wording.system(best)} "
                f"{others[best][direction]:.3f}"
            )
    return "; ".join(deficits)


def _headlines(result: Mapping[str, Any]) -> dict[str, str]:
    """Direction → its headline metric, or its first metric if that was not measured."""
    measured: dict[str, list[str]] = {}
    for name in result["scores"]:
        direction, of, metric = name.partition("/")
        if of:
            measured.setdefault(direction, []).append(metric)
    known = {direction: headline(direction, names) for direction, names in measured.items()}
    return {d: known[d] if known[d] in names else names[0] for d, names in measured.items()}


def _cells(scores: Mapping[str, Any], metrics: Mapping[str, str]) -> dict[str, float]:
    """Direction → the value of its headline metric."""
    return {d: scores[f"{d}/{metric}"]["value"] for d, metric in metrics.items()}


def _line(name: str, cells: Iterable[str], width: int) -> str:
    return f"  {name:32}" + "".join(f"{cell:>{width}}" for cell in cells).rstrip()

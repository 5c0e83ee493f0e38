"""Table 3: bytes of a vector against NDCG, a trained net for each width.

    python -m experiments.quantised run --workdir W --records FOLDER
    python -m experiments.quantised gather --workdir W

The nets are points of `experiments.sizes`: in its work directory they are not trained again, only
their stored checkpoints are embedded with, coded in every way of `experiments.codes` and measured.
W/seedS/POINT/quantised.parquet holds the metrics of each query, quantised.json what they are of.
"""

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tyro

from experiments import sweep_command
from experiments.codes import FLOAT, NO_FAISS, UNDIVIDED, codes, has_faiss, measure_codes
from experiments.gathering import begun, data_of, means, over_seeds
from experiments.paper import TABLE_3
from experiments.points import Point, points_of
from experiments.quantised_table import print_quantised, write_quantised
from experiments.running import Runner
from experiments.sweep import Sweep, networks
from vidembed import files
from vidembed.cli import command_line
from vidembed.distributed.stopping import StopFlag, StoppedError
from vidembed.engine.model import load_model
from vidembed.engine.recipe import Recipe
from vidembed.metrics.intervals import ratios
from vidembed.records.scores_file import PerQuery, Scores, read_scores, write_scores
from vidembed.workdir.versions import versions

Coded = tuple[Mapping[str, Any], Scores]
"""What is said of each code of a point's vectors, and its scores."""
WIDTHS = (256, 128, 64, 32)
METRIC = "ndcg@10"
sweep = Sweep(
    name="quantised",
    title="Table 3: bytes against NDCG@10",
    claim="256 dimensions of 4 bits, 128 bytes, lose 0.6 % of NDCG@10; half the bytes, 2 to 7 %.",
    points=lambda base: networks(base, *(f"late-4000-{width}" for width in WIDTHS)),
    axis=lambda recipe: recipe.task.model.size,
)


@dataclass(frozen=True, kw_only=True)
class Run(sweep_command.Run):
    """Train what the work directory lacks, then code and measure; what is done is skipped."""

    def run(self) -> int:
        """Runs this shard; 1 where points failed. Raises StoppedError when asked to stop."""
        base, folder = self.base(), Path(self.workdir)
        with StopFlag() as stop:
            runner = Runner(folder, stop, records=self.records)
            runner.table(base)
            points = _points(self.sweep, base, folder, self.seeds)[self._part()]
            code = runner.run(points)
            for point in points:
                if stop.asked:
                    raise StoppedError(f"stopped before the codes of {point}")
                if point.scores():
                    with point.run.lease(), stop.raising():
                        measure(point, runner, faiss=has_faiss())
        return code


@dataclass(frozen=True, kw_only=True)
class Gather(sweep_command.Gather):
    """Print one table of all codes, the paper's ratios beside ours; write it into WORKDIR."""

    def run(self) -> int:
        """Prints and writes quantised.csv, .md, .json, and a plot of each direction as SVG."""
        result = gathered(self.sweep, Path(self.workdir), self.seeds)
        print_quantised(result)
        for file in write_quantised(result, Path(self.workdir)):
            print(f"wrote {file}")
        return 0


def measure(point: Point, runner: Runner, *, faiss: bool) -> None:
    """Codes the vectors of a point's last checkpoint and measures each code, where that is not done
    yet. faiss: whether its codes are among them, which take twenty times as long as all others."""
    name, stored = f"{point}: codes", point.run.path / "quantised.json"
    if measured(point, faiss=faiss):
        runner.progress.say(f"{name} done before")
    else:
        corpus = runner.corpus(point)
        model = load_model(point.run, str(point.recipe.steps), outputs=("video",))
        with runner.progress.stage(name) as stage:
            vectors = model["video"](corpus.table)
            scores, known = measure_codes(vectors, corpus, point.measured_by, faiss=faiss)
        write_scores(point.run.path / "quantised.parquet", scores)
        said = {"key": {"step": point.recipe.steps}, "codes": known}
        files.write_json(stored, said | {"seconds": round(stage.seconds, 3)})
    runner.account(f"{point.world}/codes", (files.read_json(stored) or {}).get("seconds", 0.0))


def gathered(sweep: Sweep, folder: Path, seeds: Sequence[int] = ()) -> dict[str, Any]:
    """All that `gather` shows, as JSON values; raises ValueError where no sweep was begun."""
    stored, base, seeds = begun(sweep, folder, seeds)
    points = _points(sweep, base, folder, seeds)
    trained = [point for point in points if point.scores()]
    coded = {point: found for point in trained if (found := measured(point, faiss=has_faiss()))}
    widest = max(map(_width, points))
    rows = code_rows(coded, widest)
    data, fingerprints = data_of(trained)
    return {
        "sweep": sweep.name,
        "title": sweep.title,
        "claim": sweep.claim,
        "simulated_sessions": any(of["simulated_sessions"] for of in data.values()),
        "seeds": seeds,
        "directions": list(sweep.evaluator.directions),
        "widest": widest,
        "rows": rows,
        "missing": [f"{p}: {p.missing()}" for p in points if p not in trained]
        + [f"{p}: its codes are not measured" for p in trained if p not in coded],
        "left_out": [] if has_faiss() or any(r["kind"] == "OPQ" for r in rows) else [NO_FAISS],
        "recipe": stored["recipe"],
        "fingerprints": stored["fingerprints"] | fingerprints,
        "data": data,
        "versions": versions(),
    }


def code_rows(coded: Mapping[Point, Coded], widest: int) -> list[dict[str, Any]]:
    """A row for each code of each width, as JSON values.

    `scores` as of a sweep's point; `own` and `widest`, the ratios to float32 of the same width and
    of the widest, paired by query; `paper`, the latter there; `undivided`, the ratio to the same
    width's of products that are not divided by lengths.
    """
    worlds = dict[int, dict[str, Any]]()
    by_code = dict[tuple[int, str], list[Mapping[str, Any]]]()
    for point, (known, scores) in coded.items():
        for name, of in known.items():
            by_code.setdefault((_width(point), name), []).append(of)
            world = worlds.setdefault(point.seed, {})
            for system in (name, name + UNDIVIDED):
                of_it = {d: _only(one) for d, one in scores[system].items()}
                world[f"{_width(point)} {system}"] = of_it
    rows = []
    for (width, name), of in by_code.items():
        system = f"{width} {name}"
        row = {"width": width, "code": name, "kind": of[0]["kind"], "bytes": of[0]["bytes"]}
        row |= {"error": of[0]["error"] and sum(one["error"] for one in of) / len(of)}
        row |= means(worlds, system) | {"paper": _of_paper(width, name)}
        own, best = f"{width} {FLOAT}", f"{widest} {FLOAT}"
        compared = {"own": (system, own), "undivided": (system + UNDIVIDED, own)}
        for ratio, pair in (compared | {"widest": (system, best)}).items():
            both = [scores for scores in worlds.values() if scores.keys() >= set(pair)]
            row[ratio] = over_seeds(both, *pair, by=ratios) if both else {}
        rows.append(row)
    return rows


def _points(sweep: Sweep, base: Recipe, folder: Path, seeds: Sequence[int]) -> list[Point]:
    """Without those of permuted ids: what a code loses has no need of them."""
    return [point for point in points_of(sweep, base, folder, seeds) if not point.permuted]


def _width(point: Point) -> int:
    task: Any = point.varied.task
    return int(task.model.size)


def measured(point: Point, *, faiss: bool) -> Coded | None:
    """What is stored of a point's codes; None where they are of another step, or lack a code that
    would be measured now. faiss: whether its codes are asked for."""
    said, path = files.read_json(point.run.path / "quantised.json"), point.run.path
    if said is None or said["key"]["step"] != point.recipe.steps:
        return None
    if not said["codes"].keys() >= {code.name for code in codes(_width(point), faiss=faiss)}:
        return None
    return said["codes"], read_scores(path / "quantised.parquet")


def _only(one: PerQuery) -> PerQuery:
    return PerQuery(ids=one.ids, values={METRIC: one.values[METRIC]})


def _of_paper(width: int, code: str) -> Mapping[str, float] | None:
    """Direction → ratio to 256 dimensions in float32."""
    bits = 32 if code == FLOAT else int(code.split(" bit")[0]) if code.endswith(" bit") else 0
    if (width, bits) not in TABLE_3:
        return None
    of, whole = TABLE_3[width, bits], TABLE_3[256, 32]
    return {direction: of[direction] / whole[direction] for direction in of}


def main(sweep: Sweep, arguments: Sequence[str] | None = None) -> int:
    """Runs the verb that the command line names; an exit code."""
    verbs = {
        "run": Run(sweep=sweep, workdir=tyro.MISSING),
        "gather": Gather(sweep=sweep, workdir=tyro.MISSING),
    }
    chosen = command_line.parse(
        verbs,
        sys.argv[1:] if arguments is None else arguments,
        prog=f"python -m experiments.{sweep.name}",
        description=f"{sweep.title}. {sweep.claim}",
    )
    return command_line.guarded(chosen.run)


if __name__ == "__main__":
    sys.exit(main(sweep))

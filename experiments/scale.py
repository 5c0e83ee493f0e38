"""What a step of every recipe costs on TPU slices, by the compiler: the table of SCALE.md.

    python -m experiments.scale --workdir runs/scale > experiments/SCALE.md

Needs the `tpu` extra and no TPU. The cost of each compiled step is kept in the work folder, so that
the command goes on where it stopped; after a change of the code take another folder. A step takes
about a minute of one core.
"""

import hashlib
import json
import sys
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import asdict, replace
from pathlib import Path

from rich.console import Console

from experiments.scale_cases import Case, cases
from vidembed.cli import command_line
from vidembed.cli.imagined import Imagined, known_data
from vidembed.distributed import mesh as meshes
from vidembed.engine.compiled_cost import StepCost, dividing, step_arguments, step_cost
from vidembed.engine.compiled_text import Collective
from vidembed.engine.slices import slice_devices
from vidembed.files import write_text
from vidembed.progress import Progress

LISTED_BYTES = 1e5
"""Collectives that send less, all alike together, are left out of the table."""
UNSIGNED = ("u8[", "u32[")
"""What stored features travel as."""
COLUMNS = (
    "slice", "batch", "compile", "arguments", "temporaries", "operations", "read and written",
    "features", "collectives (sent by a chip)", "products", "memory, at most", "links",
)  # fmt: skip
INTRODUCTION = """# A step on TPU slices, by the compiler

Made by `python -m experiments.scale --workdir runs/scale > experiments/SCALE.md`, with the TPU
compiler of jax {jax} on a machine without a TPU: **nothing here was run on a TPU**.
`python -m experiments.cdml show --compile v5e:8x8` says the same for any recipe.

- Compilation is in seconds of one core of a busy machine. All other numbers are per chip.
  Arguments are the parameters with their optimiser state, the chip's share of the feature table
  and its part of the batch; temporaries come on top.
- Operations count products in loops as often as they run. Bytes read and written count a loop's
  body once, and include arrays that never leave the chip: its memory moves fewer bytes.
- "Features" are the bytes of the collectives that carry stored features. Collectives that send
  0.1 MB or more are listed by each chip's input, with how often they run in a step (× 16) and what
  a chip sends by all of them, around a ring.
- The last three columns are times in ms **by the data sheet** (`vidembed/engine/chips.py`) at full
  rates, not measurements. Float32 products count as six of bfloat16.
- A batch that does not divide over the chips is replaced by the nearest one that does. Relations
  are simulated: 50 per video, at random; so are captions and videos of clips.
- Steps on decoded clips are compiled for few slices: a 3-D network takes minutes. `ridge` is left
  out: its targets come with data.
"""


def cost_of(case: Case, name: str, folder: Path, progress: Progress) -> StepCost:
    """The cost of a case on the slice of that name, compiled unless the folder has it."""
    devices = slice_devices(name)
    recipe, imagined = dividing(case.recipe, len(devices)), Imagined(videos=case.videos)
    key = json.dumps([recipe.to_json(), asdict(imagined), name], sort_keys=True)
    path = folder / f"{name.replace(':', '-')}-{hashlib.sha256(key.encode()).hexdigest()[:16]}.json"
    if path.exists():
        return StepCost.from_json(json.loads(path.read_text()))
    with progress.stage(f"{case.title}, {name}"):
        mesh = meshes.make_mesh(recipe.mesh, devices)
        cost = step_cost(
            recipe, step_arguments(recipe, known_data(recipe, imagined).data, mesh), mesh
        )
    folder.mkdir(parents=True, exist_ok=True)
    write_text(path, json.dumps(cost.to_json()))
    return cost


def table(title: str, costs: Mapping[str, StepCost]) -> Iterator[str]:
    """Lines of Markdown: one row per slice."""
    yield f"## {title}"
    yield ""
    yield f"| {' | '.join(COLUMNS)} |"
    yield "|---" * len(COLUMNS) + "|"
    for name, cost in costs.items():
        yield f"| {' | '.join(_row(name, cost))} |"


def _row(name: str, cost: StepCost) -> list[str]:
    features = sum(c.bytes for c in cost.collectives if c.operands.startswith(UNSIGNED))
    alike = Counter[Collective]()
    for collective in cost.collectives:
        alike[replace(collective, times=1)] += collective.times
    listed = [
        f"{c.kind} {c.operands}{f' × {times}' if times > 1 else ''}: {c.sent * times / 1e6:.1f} MB"
        + (", asynchronous" if c.asynchronous else "")
        for c, times in sorted(alike.items(), key=lambda item: -item[0].sent * item[1])
        if c.sent * times >= LISTED_BYTES
    ]
    return [
        name,
        f"{cost.examples:,}",
        f"{cost.compile_seconds:.0f} s",
        f"{sum(cost.arguments.values()) / 1e6:,.0f} MB",
        f"{cost.temporaries / 1e6:,.0f} MB",
        f"{cost.operations / 1e9:,.1f} GFLOP",
        f"{cost.traffic / 1e6:,.0f} MB",
        f"{features / 1e6:.2f} MB",
        "; ".join(listed),
        *(f"{seconds * 1e3:.2f}" for seconds in cost.seconds().values()),
    ]


def main(
    *, workdir: str = "runs/scale", recipes: tuple[str, ...] = (), slices: tuple[str, ...] = ()
) -> int:
    """Print the tables.

    Args:
        workdir: where the cost of each compiled step is kept.
        recipes: words such as cdml-bfloat16, gcl, jemc; all if not given.
        slices: TPU slices, such as v5e:8x8; those of SCALE.md if not given.
    """
    import jax

    known, progress = cases(), Progress(console=Console(stderr=True))
    if unknown := set(recipes) - known.keys():
        print(f"unknown recipes {sorted(unknown)}: choose from {list(known)}", file=sys.stderr)
        return 2
    print(INTRODUCTION.format(jax=jax.__version__))
    for case in (known[name] for name in recipes or known):
        places = slices or case.slices
        costs = {place: cost_of(case, place, Path(workdir), progress) for place in places}
        print("\n".join(table(case.title, costs)) + "\n", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(command_line.call(main, sys.argv[1:], prog="python -m experiments.scale"))

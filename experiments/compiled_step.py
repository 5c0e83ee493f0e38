"""The calculator of `show --chips` against the compiler, on simulated devices; nothing is run.

    python -m experiments.compiled_step

The paper's step is compiled for 1, 2 and 8 CPU devices from shapes alone. What the compiler says of
arguments, temporaries and collectives is printed beside what vidembed.step_cost makes of them.
"""

import os
import re
import sys
from collections import Counter
from math import prod
from typing import Any

from rich.console import Console
from rich.table import Table

WIDTHS = {"visual": 1024, "audio": 128}
ITEM_BYTES = {"f32": 4, "bf16": 2, "s32": 4, "u8": 1, "pred": 1}
KINDS = "all-gather|reduce-scatter|all-reduce|all-to-all|collective-permute"
HEADINGS = ("devices", "step", "arguments", "temporaries", "computed", "factor", "sent a device")


def collectives(text: str) -> Counter[str]:
    """Collective → bytes of its results in a compiled program's text; tuples are summed."""
    found: Counter[str] = Counter()
    for line in text.splitlines():
        match = re.match(rf"\s*(?:ROOT )?\S+ = (.*?) ({KINDS})(?:-start)?\(", line)
        if match:
            for dtype, shape in re.findall(r"(\w+)\[([\d,]*)\]", match[1]):
                found[match[2]] += ITEM_BYTES[dtype] * prod(int(n) for n in shape.split(",") if n)
    return found


def computed(shapes: Any, arithmetic: Any) -> Counter[str]:
    """Collective → bytes of its results, as the calculator has them."""
    from vidembed.step_cost import messages

    found: Counter[str] = Counter()
    for message in messages(shapes, arithmetic).values():
        part = message.devices if message.kind == "reduce-scatter" else 1
        found[message.kind] += message.bytes // part
    return found


def compiled(recipe: Any, devices: int, videos: int = 1_000_000) -> tuple[Any, Any, Any]:
    """(shapes, arithmetic, compiled update) on the first `devices` devices."""
    import jax

    from vidembed import mesh as meshes
    from vidembed.step import compile_update
    from vidembed.step_cost import imagined_rows, step_shapes

    mesh = meshes.make_mesh(recipe.mesh, jax.devices()[:devices])
    shapes = step_shapes(recipe, imagined_rows(WIDTHS, videos), mesh, forbidden=48)
    arithmetic = recipe.task.arithmetic(shapes.state["parameters"], shapes.constants, shapes.batch)
    with jax.set_mesh(mesh):
        update: Any = compile_update(recipe, shapes.state, mesh)
        program = update.lower(*shapes).compile()
    return shapes, arithmetic, program


def main() -> int:
    """Prints the table; 1 where the compiler's arguments or collectives are others."""
    from vidembed.feeds.triplets import Triplets
    from vidembed.models.fusion import EarlyFusion, LateFusion, Layers
    from vidembed.recipe import Recipe
    from vidembed.step_cost import device_bytes, memory
    from vidembed.tasks.metric_learning import MetricLearning

    narrow = LateFusion(layers=Layers(compute="bfloat16"))
    cases = {
        "7,200, late, table on devices": Recipe(),
        "features from the host": Recipe(feed=Triplets(placement="host")),
        "early": Recipe(task=MetricLearning(model=EarlyFusion())),
        "bfloat16 layers": Recipe(task=MetricLearning(model=narrow)),
        "pool of negatives": Recipe(task=MetricLearning(pool="negatives")),
        "57,600": Recipe(feed=Triplets(batch_triplets=57_600)),
    }
    table, equal = Table(*HEADINGS, box=None), True
    for name, recipe in cases.items():
        for devices in (1, 2, 8):
            shapes, arithmetic, program = compiled(recipe, devices)
            analysis = program.memory_analysis()
            # The compiler drops what is not read: row numbers beside features that are there.
            unused = 0 if shapes.constants else device_bytes(shapes.batch["rows"])
            held = device_bytes(shapes)
            temporaries = sum(memory(shapes, arithmetic).values()) - held
            found, wanted = collectives(program.as_text()), computed(shapes, arithmetic)
            arguments = analysis.argument_size_in_bytes == held - unused
            same = devices == 1 or found == wanted
            equal &= arguments and same
            table.add_row(
                f"{devices}",
                name,
                f"{held / 1e6:,.1f} MB, {'equal' if arguments else 'OTHER'}",
                f"{analysis.temp_size_in_bytes / 1e6:,.0f} MB",
                f"{temporaries / 1e6:,.0f} MB",
                f"{analysis.temp_size_in_bytes / temporaries:.2f}",
                "nothing" if devices == 1 else "equal" if same else f"OTHER: {dict(found)}",
            )
    Console(width=120).print(table)
    return int(not equal)


if __name__ == "__main__":
    # Before JAX is first imported: it looks once.
    flags = os.environ.get("XLA_FLAGS", "")
    os.environ["XLA_FLAGS"] = f"{flags} --xla_force_host_platform_device_count=8"
    os.environ["JAX_PLATFORMS"] = "cpu"
    sys.exit(main())

"""A recipe on so many chips: what it takes of them and their hosts, and what gives way first.

Times come from data sheets (chips.py): an estimate, in which nothing was measured.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from vidembed import mesh as meshes
from vidembed.chips import CHIPS, ChipName
from vidembed.recipe import Recipe
from vidembed.step_cost import UPDATE, Rows, memory, messages, step_shapes, traffic
from vidembed.tasks.arithmetic import Arithmetic, Message

BUILDING_BYTES = 65
"""Bytes an edge at the peak of `RelationGraph.from_edges`, what stays included (traced)."""


@dataclass(frozen=True, kw_only=True)
class Scale:
    """Where a recipe is imagined to run, and on how much."""

    chips: tuple[int, ...] = ()
    """Show memory, network and time of a step on so many chips; none: this machine's devices."""
    chip: ChipName = "v5e"
    """Whose data sheet."""
    videos: float = 8e6
    """Videos of the corpus, where the recipe names no table."""
    degree: float = 50.0
    """Mean relations of a video (CDML's lecture: at most 50 are kept)."""
    forbidden: int = 48
    """Width of the forbidden lists."""
    classes: int = 100_000
    """Classes, for a task that has them."""
    utilisation: float = 0.5
    """Share of the peak rate that products reach: assumed, not measured."""

    def __post_init__(self) -> None:
        if min(self.chips, default=1) < 1 or self.videos < 1 or self.degree < 0:
            raise ValueError(
                f"chips {self.chips} and videos {self.videos} must be 1 or more, degree "
                f"{self.degree} 0 or more"
            )
        if not 0 < self.utilisation <= 1 or min(self.forbidden, self.classes) < 2:
            raise ValueError(
                f"utilisation {self.utilisation} must lie in (0, 1], forbidden {self.forbidden} "
                f"and classes {self.classes} be 2 or more"
            )


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """A step on so many chips, a line for each thing that costs. Bytes and operations of a chip."""

    chips: int
    scale: Scale
    unit: str
    """What a batch is counted in: triplets, videos."""
    memory: Mapping[str, int]
    passing: str
    """The largest of what is in memory at different times."""
    messages: Mapping[str, Message]
    products: Mapping[str, float]
    full_precision: Mapping[str, str]
    """Products with operands of float32, and the option of each that makes them bfloat16, or ""."""
    traffic: Mapping[str, float]
    """Between a chip and its memory."""
    seconds: Mapping[str, float]
    host: Mapping[str, float]

    @staticmethod
    def of(recipe: Recipe, rows: Rows, scale: Scale, chips: int) -> "Estimate":
        """Raises ValueError where the recipe would be refused on so many chips."""
        mesh = meshes.imagined_mesh(recipe.mesh, chips)
        shapes = step_shapes(recipe, rows, mesh, forbidden=scale.forbidden, classes=scale.classes)
        state, constants, batch = shapes
        arithmetic = recipe.task.arithmetic(state["parameters"], constants, batch)
        sent, moved = messages(shapes, arithmetic), traffic(shapes, arithmetic)
        return Estimate(
            chips=chips,
            scale=scale,
            unit=recipe.feed.unit,
            memory=memory(shapes, arithmetic),
            passing=max(arithmetic.passing, key=lambda name: arithmetic.passing[name]),
            messages=sent,
            products={name: p.flop / chips for name, p in arithmetic.products.items()},
            full_precision={
                name: f"--task.{p.operands_field.replace('_', '-')}" if p.operands_field else ""
                for name, p in arithmetic.products.items()
                if p.operands == "float32"
            },
            traffic=moved,
            seconds=seconds(arithmetic, moved, sent, chips, scale),
            host=host_memory(
                rows,
                scale.degree,
                train_share=recipe.corpus.train_share,
                threads=recipe.feed.read_threads,
            ),
        )

    def limits(self) -> list[str]:
        """What does not fit, or holds the step up, and the field of the recipe that answers it."""
        chip, found = CHIPS[self.scale.chip], []
        table = self.memory["table's share"]
        needed = sum(self.memory.values())
        if needed > chip.memory and table:
            found.append(
                "table and step do not fit on the chips; --feed.placement host, or about "
                f"{-(-needed * self.chips // int(chip.memory)):,} chips or more"
            )
        elif needed > chip.memory:
            found.append(f"the step does not fit on the chips; a smaller --feed.batch-{self.unit}")
        if sum(self.host.values()) > chip.host_memory:
            found.append(
                "the table and the graph do not fit on a host, and every host holds both whole: "
                "hosts with more memory, or fewer relations a video"
            )
        slowest = max(self.seconds, key=lambda name: self.seconds[name])
        if slowest == "network":
            most = max(self.messages, key=lambda name: self.messages[name].sent)
            found.append(
                f"the network is slowest, {most} its largest part; more {self.unit} a chip "
                f"(--feed.batch-{self.unit}) or fewer chips"
            )
        elif slowest == "products" and self.full_precision:
            options = {name: option for name, option in self.full_precision.items() if option}
            most = max(self.full_precision, key=lambda name: self.products[name])
            if most in options:
                found.append(
                    f"products are slowest, and float32 ({', '.join(options)}); "
                    f"{' and '.join(options.values())} bfloat16"
                )
            else:
                found.append(
                    f"products are slowest, {most} the largest part, which is always float32; "
                    f"fewer {self.unit} (--feed.batch-{self.unit}) or more chips"
                )
        elif slowest == "device memory":
            most = max(self.traffic, key=lambda name: self.traffic[name])
            found.append(
                f"device memory is slowest, {most} the largest part of what it moves; "
                + (
                    f"more {self.unit} a chip (--feed.batch-{self.unit}) or fewer chips"
                    if most == UPDATE
                    else f"fewer {self.unit}, or chips with faster memory"
                )
            )
        return found


def seconds(
    arithmetic: Arithmetic,
    moved: Mapping[str, float],
    sent: Mapping[str, Message],
    devices: int,
    scale: Scale,
) -> dict[str, float]:
    """Seconds of a step by what bounds it, from the chip's data sheet; latencies are not in it."""
    chip = CHIPS[scale.chip]
    compute = sum(
        product.flop / devices / (getattr(chip, product.operands) * scale.utilisation)
        for product in arithmetic.products.values()
    )
    return {
        "products": compute,
        "device memory": sum(moved.values()) / chip.memory_rate,
        "network": sum(m.sent for m in sent.values()) / chip.sending_rate(devices),
    }


def host_memory(rows: Rows, degree: float, *, train_share: float, threads: int) -> dict[str, float]:
    """Bytes that every host holds, since each reads the whole table and makes the whole batch.

    Relations as `RelationGraph`: 8 bytes a video and 8 an entry, each edge in both its rows; the
    train graph has the edges with both ends in the train split; the sampler has 8 bytes for each
    of these; a thread that makes forbidden lists has 4 bytes a video. While a graph is built from
    edges it takes about 65 bytes an edge, of which 16 stay; the file's own bytes come on top.
    """
    videos, edges = rows.videos, rows.videos * degree / 2
    train = edges * train_share**2
    return {
        "feature table": float(videos * rows.row_bytes),
        "ids": 11.0 * videos,
        "relations": 8.0 * videos + 16 * edges,
        "train relations": 8.0 * videos + 16 * train,
        "train edges to sample": 8 * train + 4 * train_share * videos,
        "forbidden lists, scratch": 4.0 * videos * max(threads, 1),
        "while the graph is built": (BUILDING_BYTES - 16) * edges,
    }

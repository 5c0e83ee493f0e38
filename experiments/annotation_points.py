"""The trainings of `experiments.annotation`: inputs, forms of the input, experts, and phases."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

Group = Literal["inputs", "forms", "experts", "phases", "halves"]
GROUPS: tuple[Group, ...] = ("inputs", "forms", "experts", "phases", "halves")
BATCH, EPOCHS = 512, 10
CONTENT = ("visual", "audio")
RESAMPLES = 100
"""Of each evaluation; `gather` resamples 1,000 times."""
BASELINES_OF = "visual"
"""The training beside which popularity is measured, which is the same for all."""
PER_BLOCK = ("--task.model.norm", "per_block")
UNIT_BLOCKS = (*PER_BLOCK, "--task.model.components", "0")
EQUAL_SIZE = 512
"""Components per modality with which visual + audio are as long as with an embedding of 256."""
FREQUENT = ("--corpus.min-class-videos", "20")
RPROP_LARGE = ("optimiser.rule:rprop", "--feed.whole-pass")
"""The first step of RPROP is the learning rate of the recipe, 0.008."""
RPROP = (*RPROP_LARGE, "--optimiser.learning-rate", "0.0001")


@dataclass(frozen=True, kw_only=True)
class Training:
    """One annotation run of a seed, as options of `vidembed train annotation`."""

    name: str
    group: Group
    modalities: tuple[str, ...] = CONTENT
    """Modalities of the table, and embeddings by the name of their file."""
    options: tuple[str, ...] = PER_BLOCK
    epochs: int = EPOCHS
    begins_from: str = ""
    """Another training of the seed, whose last checkpoint this one starts from."""
    every: int = 0
    """Passes between the checkpoints of its learning curve; 0: the last checkpoint alone."""
    labels: str = ""
    """A file of labels in the seed's folder, instead of the table's."""
    one_seed: bool = False
    """Run with the first seed only."""

    @property
    def embeddings(self) -> tuple[str, ...]:
        """The embeddings among the modalities."""
        return tuple(name for name in self.modalities if name not in CONTENT)


def trainings(groups: tuple[Group, ...], first: bool) -> Iterator[Training]:
    """The trainings of a seed in these groups; `first`: whether it is the first seed."""
    for training in (*_inputs(), *_forms(), *_experts(), *_phases(), *_halves()):
        if training.group in groups and (first or not training.one_seed):
            yield training


def _inputs() -> Iterator[Training]:
    """Figure 6: what embeddings add to content, with two experts; controls with one seed."""
    singles: tuple[tuple[str, ...], ...] = (("visual",), ("audio",))
    for modalities in (*singles, CONTENT):
        yield Training(name="+".join(modalities), group="inputs", modalities=modalities)
    wide = (*PER_BLOCK, "--task.model.components", str(EQUAL_SIZE))
    yield Training(name="visual+audio, equal size", group="inputs", options=wide, one_seed=True)
    for embedding in ("cdml", "gcml", "gcl"):
        modalities = (*CONTENT, embedding)
        yield Training(name=f"visual+audio+{embedding}", group="inputs", modalities=modalities)
    permuted = (*CONTENT, "cdml-permuted")
    yield Training(
        name="visual+audio+permuted cdml", group="inputs", modalities=permuted, one_seed=True
    )
    alone = (*UNIT_BLOCKS, "--task.classifier.mixtures", "1")
    for embedding in ("cdml", "gcml", "gcl"):
        yield Training(
            name=f"{embedding} alone", group="inputs", modalities=(embedding,), options=alone,
            one_seed=True,
        )  # fmt: skip
    for modalities in (CONTENT, (*CONTENT, "cdml")):
        name = "+".join(modalities)
        yield Training(
            name=f"{name}, unit blocks", group="inputs", modalities=modalities,
            options=UNIT_BLOCKS, one_seed=True,
        )  # fmt: skip


def _forms() -> Iterator[Training]:
    """Forms of the input, and of the start; on content, with one seed."""
    forms: dict[str, tuple[str, ...]] = {
        "joint norm (Eq. 7)": ("--task.model.norm", "joint"),
        "no norm": ("--task.model.norm", "none"),
        "whitened, unit blocks": (*PER_BLOCK, "--task.model.whiten"),
        "standardised features": (
            *("--task.model.norm", "none", "--task.model.components", "0"),
            "--task.model.standardise",
        ),
        "biases from zero": (*PER_BLOCK, "--task.biases", "zero"),
    }
    for name, options in forms.items():
        yield Training(name=name, group="forms", options=options, one_seed=True)
    for biases in ("log_odds", "zero"):
        yield Training(
            name=f"biases from {biases.replace('_', '-')}, 60 passes", group="forms", epochs=60,
            options=(*PER_BLOCK, "--task.biases", biases), every=10, one_seed=True,
        )  # fmt: skip
    logistic = (*PER_BLOCK, "--task.classifier.mixtures", "1", "--task.biases", "zero")
    yield Training(
        name="H = 1, biases from zero, 160 passes", group="forms", options=logistic, epochs=160,
        every=20, one_seed=True,
    )  # fmt: skip


def _experts() -> Iterator[Training]:
    """Experts per class on content, with one seed; many of them on frequent classes only."""
    options: tuple[str, ...]
    for experts in (1, 5, 10):
        options = (*PER_BLOCK, "--task.classifier.mixtures", str(experts))
        yield Training(name=f"H = {experts}", group="experts", options=options, one_seed=True)
    for experts in (2, 30, 100):
        options = (*PER_BLOCK, "--task.classifier.mixtures", str(experts), *FREQUENT)
        name = f"frequent classes, H = {experts}"
        yield Training(name=name, group="experts", options=options, one_seed=True)


def _phases() -> Iterator[Training]:
    """Full-batch phases after the first training, on the projections and then on the experts; and
    the learning curves of these, beside one longer training."""
    start = "visual+audio"
    for name, learns, rule, epochs, every in (
        ("RPROP on A", "blocks", RPROP, 25, 0),
        ("RPROP on A, large first step", "blocks", RPROP_LARGE, 25, 5),
        ("RPROP on A, 50 steps", "blocks", RPROP, 50, 5),
        ("Adam on A", "blocks", ("--optimiser.learning-rate", "0.001"), 10, 2),
        ("Adam on all, as long", "", (), 10, 2),
    ):
        options = (*PER_BLOCK, *(("--learns", learns) if learns else ()), *rule)
        yield Training(
            name=name, group="phases", options=options, epochs=epochs, begins_from=start,
            every=every, one_seed=True,
        )  # fmt: skip
    yield Training(
        name="RPROP on A, then on experts", group="phases", epochs=25, begins_from="RPROP on A",
        options=(*PER_BLOCK, "--learns", "classes", *RPROP), every=5, one_seed=True,
    )  # fmt: skip
    yield Training(name="20 passes", group="phases", epochs=20, every=2, one_seed=True)


def _halves() -> Iterator[Training]:
    """Sessions simulated from half of the classes, annotation measured on the other half."""
    forms: dict[str, tuple[str, ...]] = {
        "blocks of components": PER_BLOCK,
        "unit blocks": UNIT_BLOCKS,
    }
    for name, options in forms.items():
        for modalities in (CONTENT, (*CONTENT, "cdml-half")):
            yield Training(
                name=f"other half of the classes: {'+'.join(modalities)}, {name}", group="halves",
                modalities=modalities, options=options, labels="other_half.parquet",
                one_seed=True,
            )  # fmt: skip

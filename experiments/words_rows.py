"""The trainings behind JEMC's tables: what each row changes of one recipe."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

from experiments.words_published import SOUND

Loss = Literal["vse", "vse++", "weighted", "info-nce"]
LOSSES: Mapping[Loss, tuple[str, str]] = {
    "vse": ("VSE (sum of hinges)", "sum-of-hinges"),
    "vse++": ("VSE++ (hardest hinge)", "hardest-hinge"),
    "weighted": ("weighted ranking", "weighted-ranking"),
    "info-nce": ("InfoNCE", "info-nce"),
}
"""Key → name, and the loss's word in commands."""
BLOCKS = ("loss", "features", "concatenation", "shared space", "spaces", "text encoder")


class Row(NamedTuple):
    """A row of Table 1. Rows of one folder are one training."""

    block: str
    key: str
    """What orderings call it."""
    name: str
    folder: str
    options: Sequence[str]
    silent: bool = False
    """Whether it reads no sound although the data has it."""


@dataclass(frozen=True, kw_only=True)
class Training:
    """What all rows share, beside the preset `recommended`."""

    batch: int = 512
    """Pairs of a video and a caption, with InfoNCE."""
    hinge_batch: int = 128
    """The same with losses of hinges (the paper: 128): the hardest of more negatives is more often
    a caption that fits, too."""
    passes: float = 12.0
    """Over the train captions."""
    steps: int = 0
    """Instead of passes; 0: by passes."""
    rate: float = 0.003
    """Learning rate at the start; it falls along a cosine to zero."""
    temperature: float = 0.07
    """InfoNCE's at the start."""
    feature_dropout: float = 0.5
    """Of the features of videos."""
    text_dropout: float = 0.2
    """Of sentence vectors."""
    hidden: tuple[int, ...] = (512,)
    """Hidden layers of the text encoder; none for a linear map."""
    loss: Loss = "info-nce"
    """Of all blocks but the first, which compares losses."""
    gru: bool = True
    """Also train a GRU: 128 units, InfoNCE, batches of 128, 10 passes, captions cut at 14 words.
    With the hardest hinge and this dropout all texts get one vector, and few runs recover."""
    gru_passes: float = 10.0
    """Of the GRU."""

    def common(self, captions: int, loss: Loss) -> tuple[str, ...]:
        """Options of every row but the GRU."""
        batch = self.batch if loss == "info-nce" else self.hinge_batch
        steps = self.steps or math.ceil(self.passes * captions / batch)
        return (
            *_length(batch, steps),
            "--optimiser.learning-rate", str(self.rate),
            "--task.model.feature-dropout", str(self.feature_dropout),
        )  # fmt: skip

    def sentences(self, encoder: str) -> tuple[str, ...]:
        """The text encoder on frozen sentence vectors."""
        return (
            "--corpus.encoder", encoder, "task.model.text:sentences",
            "--task.model.text.dropout", str(self.text_dropout),
            "--task.model.text.hidden", *map(str, self.hidden),
        )  # fmt: skip

    def words(self, captions: int) -> tuple[str, ...]:
        """Options of the GRU's row."""
        return (
            *_length(128, math.ceil(self.gru_passes * captions / 128)),
            "--optimiser.learning-rate", "0.002", "--corpus.longest-caption", "14",
            "--task.model.feature-dropout", str(self.feature_dropout),
            *self.of_loss("info-nce"), "task.model.text:gru",
            "--task.model.text.units", "128", "--task.model.text.embedding", "128",
        )  # fmt: skip

    def of_loss(self, key: Loss) -> tuple[str, ...]:
        """The options of a loss."""
        chosen = f"task.loss:{LOSSES[key][1]}"
        if key != "info-nce":
            return (chosen,)
        return chosen, "--task.loss.temperature", str(self.temperature)


def _length(batch: int, steps: int) -> tuple[str, ...]:
    return (
        "--preset", "recommended", "--feed.batch-pairs", str(batch), "--steps", str(steps),
        "--checkpoints.every-steps", str(steps), "--checkpoints.keep-last", "1",
        "--log-every", str(max(1, steps // 20)),
    )  # fmt: skip


def rows(
    modalities: Sequence[str], training: Training, encoder: str, captions: int
) -> Iterator[Row]:
    """The rows for data with these modalities, sound last, and this many train captions.

    With one modality, only the losses and the text encoder can be compared.
    """
    seen = [name for name in modalities if name != SOUND] or list(modalities)
    sound = [SOUND] if SOUND in modalities and len(modalities) > 1 else []
    everything, first = "+".join(modalities), seen[0]
    # Two spaces as in the paper: the first modality; and the others, or all if there is one more.
    two = (first, "+".join([*(seen[1:] or seen), *sound]))
    without = (first, "+".join(seen[1:] or seen))
    text = training.sentences(encoder)

    def spaces(block: str, key: str, name: str, *of: str, loss: Loss, silent: bool = False) -> Row:
        shared = training.common(captions, loss)
        options = (*shared, "--task.model.spaces", *of, *training.of_loss(loss), *text)
        return Row(block, key, name, f"{'_'.join(of)}-{loss}", options, silent)

    for key, (name, _) in LOSSES.items():
        yield spaces("loss", key, name, everything, loss=key)
    if len(modalities) > 1:
        loss = training.loss
        for name in modalities:
            alone = f"{name} alone"
            yield spaces("features", alone, alone, name, loss=loss, silent=name != SOUND)
        named = f"one space of {everything}"
        yield spaces("concatenation", "concatenation", named, everything, loss=loss)
        pair = f"{first}~{(sound or seen[1:])[0]}"
        model = ("--task.model.modalities", *modalities, "--task.model.pairs", pair)
        model = ("task.model:shared-space", *model, *training.of_loss(loss), *text)
        named, folder = f"one shared space, {pair}", f"shared-{pair}-{loss}"
        options = (*training.common(captions, loss), *model)
        yield Row("shared space", "shared", named, folder, options)
        if sound:
            named = f"two spaces without audio: {', '.join(without)}"
            yield spaces("spaces", "two silent", named, *without, loss=loss, silent=True)
        yield spaces("spaces", "two", f"two spaces: {', '.join(two)}", *two, loss=loss)
        if list(two) != [*modalities]:
            named = f"a space for each modality: {', '.join(modalities)}"
            yield spaces("spaces", "each", named, *modalities, loss=loss)
        copies = (everything, everything)
        named = f"two copies of one space: {', '.join(copies)}"
        yield spaces("spaces", "copies", named, *copies, loss=loss)
    if training.gru:
        of = two if len(modalities) > 1 else (everything,)
        options = ("--task.model.spaces", *of, *training.words(captions))
        named, folder = f"GRU, InfoNCE: {', '.join(of)}", f"gru-{'_'.join(of)}"
        yield Row("text encoder", "gru", named, folder, options)

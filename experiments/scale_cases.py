"""The recipes of SCALE.md, each at a size of data and on some slices."""

from dataclasses import dataclass, replace
from typing import Any

from experiments import cdml, clip_classes, gcml, jemc, provico
from vidembed.cli.imagined_clips import CLIPS
from vidembed.engine.recipe import Recipe
from vidembed.feeds.clips import DecodedClips
from vidembed.losses.info_nce import InfoNCE
from vidembed.models.r3d import ResidualClips
from vidembed.models.text import Sentences
from vidembed.models.video_text import JointSpaces
from vidembed.recipes.annotation import recipe as labels
from vidembed.recipes.linear import recipe as linear
from vidembed.tasks.clip_reading import EvenClips
from vidembed.tasks.video_text import VideoText

SLICES = ("v5e:2x2", "v5e:4x4", "v5e:8x8", "v5e:16x16", "v5p:4x4x4", "v6e:4x4")
SMALL = ("v5e:2x2", "v5e:4x4", "v5e:8x8", "v6e:4x4")
"""For batches of a hundred or a few."""


@dataclass(frozen=True, kw_only=True)
class Case:
    """A recipe at a size of data."""

    title: str
    recipe: Recipe
    videos: float = 8e6
    slices: tuple[str, ...] = SLICES


def cases() -> dict[str, Case]:
    """Every recipe, and those of its variants that are worth a table."""
    paper = cdml.recipe
    narrow = _bfloat16(paper)
    return {
        "cdml": Case(title="cdml, float32", recipe=paper),
        "cdml-bfloat16": Case(title="cdml, layers in bfloat16", recipe=narrow),
        "gcml": Case(title="gcml gcml: smart triplets", recipe=gcml.gcml),
        "gcl": Case(title="gcml gcl: cluster labels, 100,000 classes", recipe=gcml.gcl),
        "control": Case(title="gcml cdml: the control", recipe=gcml.cdml),
        "large": Case(
            title="cdml, layers in bfloat16, 278 million videos (CDML's corpus)",
            recipe=narrow,
            videos=278e6,
            slices=("v5p:4x4x4",),
        ),
        "linear": Case(title="linear: sums of the closed form, of a part of a pass", recipe=linear),
        "annotation": Case(title="annotation: 3,862 labels, two experts each", recipe=labels),
        "jemc": Case(
            title="jemc: the paper's two spaces, captions padded to 16 tokens",
            recipe=jemc.recipe,
            videos=1e4,
            slices=SMALL,
        ),
        "jemc-sentences": Case(
            title="jemc, recommended: frozen sentence vectors, InfoNCE",
            recipe=_recommended(jemc.recipe),
            videos=1e4,
            slices=SMALL,
        ),
        "provico": Case(
            title="provico: windows of features, 256 videos of four windows",
            recipe=_batches(provico.recipe, 256),
            videos=CLIPS,
            slices=SMALL,
        ),
        "provico-r3d": Case(
            title="provico, R3D-18: 32 videos of four decoded clips of 16 × 112 × 112",
            recipe=_decoded(provico.recipe),
            videos=CLIPS,
            slices=("v5e:2x2",),
        ),
        "provico-clips": Case(
            title="provico --preset clips: 16 videos, two decoded clips each, a quarter of R3D-18",
            recipe=_batches(_decoded(provico.recipe, small=True), 16),
            videos=CLIPS,
            slices=("v5e:2x2", "v5e:4x4"),
        ),
        "clip-classes": Case(
            title="clip-classes: windows of features, an encoder fine-tuned, 256 videos",
            recipe=_batches(clip_classes.recipe, 256),
            videos=CLIPS,
            slices=SMALL,
        ),
    }


def _batches(recipe: Recipe, videos: int) -> Recipe:
    feed: Any = recipe.feed
    return replace(recipe, feed=replace(feed, batch_videos=videos))


def _recommended(recipe: Recipe) -> Recipe:
    """What `--preset recommended` changes of the step."""
    model = JointSpaces(text=Sentences(dropout=0.2), feature_dropout=0.5)
    task = VideoText(model=model, loss=InfoNCE(temperature=0.07))
    feed: Any = recipe.feed
    return replace(recipe, task=task, feed=replace(feed, batch_pairs=512))


def _decoded(recipe: Recipe, *, small: bool = False) -> Recipe:
    """R3D-18 on decoded clips; `small`: what `--preset clips` changes of the step."""
    task: Any = recipe.task
    cut: Any = {"clips": 2, "frames": 8, "height": 64, "width": 64} if small else {"clips": 4}
    task = replace(
        task,
        encoder=ResidualClips(width=0.25 if small else 1.0),
        augment=replace(task.augment, size=56) if small else task.augment,
        embedded=EvenClips(**cut),
    )
    return replace(recipe, task=task, feed=DecodedClips(**cut))


def _bfloat16(recipe: Recipe) -> Recipe:
    task: Any = recipe.task
    narrow = replace(task.model, layers=replace(task.model.layers, compute="bfloat16"))
    return replace(recipe, task=replace(task, model=narrow))

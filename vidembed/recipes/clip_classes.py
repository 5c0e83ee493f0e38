"""Classes of videos from their clips: an encoder fine-tuned, or frozen under a linear softmax.

    vidembed train clip-classes --workdir W --init-from RUN --corpus.folder F --corpus.clips C
    vidembed evaluate clip-classes --workdir W

RUN is a run of `provico`, on these or on other videos; RUN@STEP is one of its checkpoints. Its
encoder, with batch statistics and the standardisation of its inputs, is where this run begins: give
the same --preset and encoder. The heads of RUN are left out, and the classes are new. Without
--init-from everything is learned from scratch, for comparison.

--task.encoder-rate 0 leaves the encoder as it is and trains the linear softmax alone; 0.1 gives the
encoder a tenth of the learning rate. Clips of a train video learn its class. A test video has the
mean of the class probabilities of its evenly spread clips (task.embedded).

Kinetics, UCF101 and HMDB51 are read in their published forms (--corpus.form). The rates and steps
of the paper (Park et al., CVPR 2022) are not known: these are ours.
"""

from collections.abc import Mapping
from typing import Any

from vidembed.corpora.clip_files import ClipFilesPaths
from vidembed.engine.evaluation import Evaluation
from vidembed.engine.optimiser import Adagrad, Adam, Optimiser, Rprop, Rule, Sgd
from vidembed.engine.protocols import CorpusOptions, Evaluator, FeedOptions, Task
from vidembed.engine.recipe import Recipe, Retention
from vidembed.evaluators.class_accuracy import ClassAccuracy
from vidembed.evaluators.probe import Probe
from vidembed.feeds.clips import DecodedClips
from vidembed.feeds.windows import FeatureWindows
from vidembed.models.augment import Augmentation
from vidembed.models.clip_encoder import ClipEncoder, MeanOfFrames
from vidembed.models.r3d import ResidualClips
from vidembed.models.temporal import TemporalConvolution
from vidembed.recipes import provico
from vidembed.tasks.clip_classes import ClipClasses

recipe = Recipe(
    corpus=ClipFilesPaths(),
    task=ClipClasses(
        encoder=TemporalConvolution(),
        augment=Augmentation(jitter=0.0, grey=0.0, blur=0.0),
    ),
    feed=FeatureWindows(),
    optimiser=Optimiser(learning_rate=1e-3, decay=0.0),
    checkpoints=Retention(every_steps=500),
    steps=5_000,
)
"""Clips are cropped and mirrored; colours stay as they are."""
RECIPES = {"clip-classes": recipe}
PRESETS: Mapping[str, str] = provico.PRESETS
"""Those of `provico`, so that the encoder of a run fits that was trained with the same word."""
EVALUATION = Evaluation(evaluators=(ClassAccuracy(),))
OFFERED: Mapping[type, Any] = {
    CorpusOptions: ClipFilesPaths,
    Task: ClipClasses,
    FeedOptions: FeatureWindows | DecodedClips,
    Evaluator: ClassAccuracy | Probe,
    ClipEncoder: TemporalConvolution | ResidualClips | MeanOfFrames,
    Rule: Adam | Sgd | Adagrad | Rprop,
}

"""Videos as distributions, learned from clips without labels: ProViCo (Park et al., CVPR 2022).

    vidembed train provico --workdir W --corpus.folder F --corpus.clips clips.csv --preset clips
    vidembed evaluate provico --workdir W --follow

Each clip is a Gaussian, a video is the mixture of its clips, and pairs of videos below a distance
are positive. The list has path, class, group and split; classes are read by the evaluation alone.

`clips` decodes clips while training (feed:decoded-clips) for a 3-D network, R3D-18 of a quarter of
the channels on 8 frames of 56 x 56: a size to try things on a CPU. `windows`, as without a preset,
cuts windows of stored features of frames (--corpus.frames, made by `vidembed extract`), with a
convolution over time. task.encoder:mean-of-frames learns the two heads alone. What a trained model
embeds is chosen apart (task.embedded); its frames, stride and rate must be those of the feed.

The paper leaves open the numbers of clips and samples, the threshold, the optimiser and the
augmentation, and has no published code: these values are ours. We differ in the threshold, a share
of the batch's pairs instead of a distance (task.loss.threshold:fixed), and in the weight by
variances (--task.loss.uncertainty), which as printed explodes. Mirrored clips are of the same
video: set --task.augment.flip 0 where left and right differ. task.loss:info-nce is the
deterministic method.
"""

from collections.abc import Mapping
from typing import Any

from vidembed.corpora.clip_files import ClipFilesPaths
from vidembed.engine.evaluation import Evaluation
from vidembed.engine.optimiser import Adagrad, Adam, Optimiser, Rprop, Rule, Sgd
from vidembed.engine.protocols import CorpusOptions, Evaluator, FeedOptions, Task
from vidembed.engine.recipe import Recipe, Retention
from vidembed.evaluators.probe import Probe
from vidembed.feeds.clips import DecodedClips
from vidembed.feeds.windows import FeatureWindows
from vidembed.losses.closed_forms_of_gaussians import ExpectedDistance, ExpectedSimilarity
from vidembed.losses.info_nce import InfoNCE
from vidembed.losses.match_probability import Match, Sampled
from vidembed.losses.ranking import PairLoss
from vidembed.losses.sigmoid import Sigmoid
from vidembed.losses.thresholds import Fixed, Quantile, Threshold
from vidembed.models.clip_encoder import ClipEncoder, MeanOfFrames
from vidembed.models.r3d import ResidualClips
from vidembed.models.temporal import TemporalConvolution
from vidembed.tasks.clips import ProbabilisticVideos

recipe = Recipe(
    corpus=ClipFilesPaths(),
    task=ProbabilisticVideos(encoder=TemporalConvolution()),
    feed=FeatureWindows(),
    optimiser=Optimiser(learning_rate=1e-3, decay=0.0),
    checkpoints=Retention(every_steps=500),
    steps=5_000,
)
RECIPES = {"provico": recipe}
_CUTS = "--{0}.clips 2 --{0}.frames 8 --{0}.rate 8 --{0}.height 64 --{0}.width 64"
PRESETS: Mapping[str, str] = {
    "windows": "--feed.batch-videos 64 --steps 1000 --checkpoints.every-steps 100 "
    "--checkpoints.keep-last 10 --log-every 20 feed:feature-windows "
    "task.encoder:temporal-convolution task.embedded:even-windows",
    "clips": "--steps 200 --checkpoints.every-steps 20 --checkpoints.keep-last 10 --log-every 5 "
    "--task.augment.size 56 feed:decoded-clips --feed.batch-videos 16 "
    f"{_CUTS.format('feed')} task.encoder:residual-clips --task.encoder.width 0.25 "
    f"task.embedded:even-clips {_CUTS.format('task.embedded')}",
}
"""Word of `--preset` → its options. Explicit options take precedence, and options that the chosen
parts lack are ignored."""
EVALUATION = Evaluation(evaluators=(Probe(),))
OFFERED: Mapping[type, Any] = {
    CorpusOptions: ClipFilesPaths,
    Task: ProbabilisticVideos,
    FeedOptions: FeatureWindows | DecodedClips,
    Evaluator: Probe,
    ClipEncoder: TemporalConvolution | ResidualClips | MeanOfFrames,
    PairLoss: InfoNCE | Sigmoid,
    Threshold: Quantile | Fixed,
    Match: Sampled | ExpectedDistance | ExpectedSimilarity,
    Rule: Adam | Sgd | Adagrad | Rprop,
}

"""Videos and captions in joint spaces: JEMC (Mithun et al., ICMR 2018).

    vidembed train jemc --workdir W --corpus.table T --corpus.captions C --preset published-code
    vidembed evaluate jemc --workdir W --follow

The table has the modalities object (ResNet-152, mean over frames), activity (I3D) and audio
(SoundNet). Spaces are object and text, and activity with audio and text; a caption passes through a
GRU for each; the hardest negative of the batch counts, weighted by the rank of the true match
(--task.loss). Similarities of the spaces are added. Other modalities and spaces are named by
--task.model.spaces: `visual visual+audio`, or `visual+audio` for one space of both.

task.model:shared-space is the paper's other arrangement (Table 1): one space of all modalities and
one text encoder, with a loss between modalities of the same video (--task.model.pairs).

Paper and published code disagree, so each is a preset: `paper` has a rate of 0.002, a tenth of it
every 15 passes; `published-code` 0.0002, half of it every 10 passes. Both have batches of 128, 30
passes, margin 0.2, gradients clipped at a norm of 2, summed losses, and count a video's other
captions as negatives (the paper does not say; the code does). The recipe itself is the code's, but
a video's other captions are no negatives, and losses are averaged.

Lengths are in passes over the train captions (--passes), and become steps when the data is known:
of MSR-VTT, whose 6,513 train videos have 130,260 captions, a pass is 1,018 steps of 128. --steps,
--optimiser.decay-steps and --checkpoints.every-steps replace them.

`recommended` reads frozen sentence vectors instead of words, and trains with InfoNCE, dropout and
batches of 512 for 12 passes. The rate falls to zero along a cosine.
"""

from collections.abc import Mapping
from typing import Any

from vidembed.corpora.captions import CaptionPaths
from vidembed.engine.evaluation import Evaluation
from vidembed.engine.optimiser import Adagrad, Adam, Optimiser, Rprop, Rule, Sgd
from vidembed.engine.passes import Lengths
from vidembed.engine.protocols import CorpusOptions, Evaluator, FeedOptions, Task
from vidembed.engine.recipe import Recipe, Retention
from vidembed.evaluators.video_text import VideoText as VideoTextScores
from vidembed.feeds.captions import VideoCaptions
from vidembed.losses.info_nce import InfoNCE
from vidembed.losses.ranking import HardestHinge, PairLoss, SumOfHinges, WeightedRanking
from vidembed.losses.sigmoid import Sigmoid
from vidembed.models.joint import JointModel
from vidembed.models.shared_space import SharedSpace
from vidembed.models.text import Gru, Sentences, TextEncoder
from vidembed.models.video_text import JointSpaces
from vidembed.tasks.video_text import VideoText

PASS, PASSES = 1_018, 30
"""Steps of a pass over MSR-VTT's train captions, in batches of 128; passes of a training."""
LENGTHS = Lengths(passes=PASSES, decay_passes=10, checkpoint_passes=1)
"""Of a training by command, instead of the steps of `recipe`, which are MSR-VTT's."""

recipe = Recipe(
    corpus=CaptionPaths(),
    task=VideoText(),
    feed=VideoCaptions(),
    optimiser=Optimiser(learning_rate=2e-4, decay=0.5, decay_steps=10 * PASS, clip_norm=2.0),
    checkpoints=Retention(every_steps=PASS),
    steps=PASSES * PASS,
)
RECIPES = {"jemc": recipe}
_PUBLISHED = (
    f"--feed.batch-pairs 128 --passes {PASSES} --checkpoint-passes 1 --optimiser.schedule stepwise "
    "--optimiser.clip-norm 2 --task.reduce sum --task.no-mask-same task.loss:weighted-ranking "
    "--task.loss.margin 0.2 --task.loss.weight 1"
)
PRESETS: Mapping[str, str] = {
    "paper": f"{_PUBLISHED} --optimiser.learning-rate 0.002 --optimiser.decay 0.9 "
    "--decay-passes 15",
    "published-code": f"{_PUBLISHED} --optimiser.learning-rate 0.0002 --optimiser.decay 0.5 "
    "--decay-passes 10",
    "recommended": "--feed.batch-pairs 512 --passes 12 --checkpoint-passes 1 "
    "--checkpoints.keep-last 12 --log-every 15 --optimiser.learning-rate 0.003 "
    "--optimiser.schedule cosine --optimiser.clip-norm 2 task.loss:info-nce "
    "--task.loss.temperature 0.07 task.model.text:sentences --task.model.text.hidden 512 "
    "--task.model.text.size 256 --task.model.text.dropout 0.2 --task.model.feature-dropout 0.5",
}
"""Word of `--preset` → its options. Explicit options take precedence, and options that the chosen
parts lack are ignored."""
EVALUATION = Evaluation(evaluators=(VideoTextScores(),))
OFFERED: Mapping[type, Any] = {
    CorpusOptions: CaptionPaths,
    Task: VideoText,
    FeedOptions: VideoCaptions,
    Evaluator: VideoTextScores,
    JointModel: JointSpaces | SharedSpace,
    TextEncoder: Gru | Sentences,
    PairLoss: WeightedRanking | HardestHinge | SumOfHinges | InfoNCE | Sigmoid,
    Rule: Adam | Sgd | Adagrad | Rprop,
}

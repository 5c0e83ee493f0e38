"""The options in the short help of a recipe's verbs: those that users change first."""

_SIZES = (
    "steps",
    "passes",
    "feed.batch-triplets",
    "feed.batch-videos",
    "feed.batch-pairs",
    "optimiser.learning-rate",
    "task.loss.margin",
    "task.ridge",
    "task.power",
    "task.model.modalities",
    "task.model.components",
    "task.model.norm",
    "task.model.spaces",
    "task.model.pairs",
    "task.classifier.mixtures",
    "task.model.modality",
    "task.model.layers.hidden",
    "task.model.layers.size",
    "task.model.layers.input-dropout",
)
"""Fields of a recipe that users change first."""
_EVALUATOR = ("evaluator.directions", "evaluator.ks", "evaluator.ratings", "evaluator.items")
_DATA = (
    "workdir",
    "corpus.table",
    "corpus.edges",
    "corpus.hierarchy",
    "corpus.labels",
    "corpus.captions",
    "corpus.vocabulary",
    "corpus.embeddings",
)
TRAIN = (
    *_DATA,
    "preset",
    *_SIZES,
    "checkpoints.every-steps",
    "evaluate-every",
    "corpus.validation-share",
    "init-from",
    "seed",
    "distributed",
)
EVALUATE = (
    "workdir",
    "step",
    "follow",
    "patience-seconds",
    "baselines",
    "corpus.table",
    "corpus.edges",
    *_EVALUATOR,
    "distributed",
    "mesh.model",
)
REPORT = (
    "workdir",
    "vocabulary",
    "titles",
    "url-template",
    "thumbnail-template",
    "texts",
    "baselines",
    "corpus.table",
    "corpus.edges",
    *_EVALUATOR,
)
SHOW = (*_DATA, "preset", *_SIZES, "compile", "videos", "degree", "mesh.model")

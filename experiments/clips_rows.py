"""The trainings behind the tables of ProViCo: what each row changes of one command."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Literal, NamedTuple

from vidembed.corpora.frame_sources import Motion

Input = Literal["features", "motion", "both"]
MOTION: dict[Input, Motion] = {"features": "none", "motion": "only", "both": "beside"}
"""Input → `--corpus.motion`."""
INPUTS: tuple[Input, ...] = ("motion", "both")
"""Those beside the features alone."""
INFO_NCE, PROVICO, GAUSSIAN, POINT = "info-nce", "provico", "gaussian", "point"
FIXED = "tau-fixed"
"""Its distance is the median threshold of ProViCo's run of the first seed."""
DISTANCE = "DISTANCE"
UNCERTAINTY = "--task.loss.uncertainty"
CONVOLUTION = "temporal-convolution"


class Row(NamedTuple):
    """A trained system."""

    block: str
    key: str
    name: str
    loss: Sequence[str] = ()
    """Words of the loss, after the options of feed and encoder."""
    heads: Sequence[str] = ()
    """Options before the words of parts."""
    input: Input = "features"
    encoder: str = "mean-of-frames"
    videos: int = 0
    """Train clips that it learns from; 0: all."""
    beside: str = INFO_NCE
    """The deterministic system of the same input, encoder and train clips."""
    rate: float = 0.0
    """A learning rate that is not chosen; 0: it is."""
    untrained: str = ""
    """The name under which its parameters before training are measured, too."""


def rows(videos: Sequence[int]) -> Iterator[Row]:
    """All rows; `videos` are the numbers of train clips to learn from, besides all."""
    yield Row("systems", INFO_NCE, "InfoNCE of two halves", ("task.loss:info-nce",))
    yield Row("systems", PROVICO, "ProViCo", untrained="untrained heads")
    for source in INPUTS:
        inputs = "motion" if source == "motion" else "features and motion"
        for key, name, words in both():
            yield Row(
                "inputs", f"{source}, {key}", f"{name}, {inputs}", words, input=source,
                beside=f"{source}, {INFO_NCE}",
                untrained=f"untrained heads, {inputs}" if key == PROVICO else "",
            )  # fmt: skip
    of = "what a video is"
    yield _part(of, GAUSSIAN, "one Gaussian", "--task.loss.distribution=gaussian")
    yield _part(of, POINT, "a point", "--task.loss.distribution=point")
    yield _part(of, "components", "mixture, samples of clips", "--task.loss.draw=components")
    of, quantile = "threshold", "task.loss.threshold:quantile"
    for key, share, name in (
        ("self-pairs", 0.0, "each video with itself alone"),
        ("tau-0.03", 0.03, "quantile .03 (default .01)"),
        ("tau-0.06", 0.06, "quantile .06"),
        ("tau-0.003", 0.003, "quantile .003"),
    ):
        words = (quantile, f"--task.loss.threshold.share={share:g}")
        yield Row(of, key, name, words)
    words = ("task.loss.threshold:fixed", f"--task.loss.threshold.distance={DISTANCE}")
    yield Row(of, FIXED, "fixed, the default's median", words)
    of, regulariser = "variances", f"{UNCERTAINTY}.regulariser=0"
    weight, kl = f"{UNCERTAINTY}.weight=none", f"{UNCERTAINTY}.kl=none"
    yield _part(of, "all-off", "without regulariser, weight and KL", regulariser, weight, kl)
    yield _part(of, "regulariser-off", "without regulariser", regulariser)
    yield _part(of, "weight-off", "without weight", weight)
    yield _part(of, "kl-off", "without KL", kl)
    printed = (f"{UNCERTAINTY}.variance=per_dimension", f"{UNCERTAINTY}.weight=deviations")
    yield _part(of, "weight-printed", "weight as printed, per dimension", *printed)
    of, words = "match", ("task.loss.match:expected-distance",)
    yield Row(of, "pcme++", "closed form of PCME++", words)
    as_in_prolip = (
        "--task.heads.start=-10",
        "--task.loss.average=together",
        f"{UNCERTAINTY}.kl-weight=1e-5",
    )
    words = ("task.loss.match:expected-similarity",)
    yield Row(of, "prolip", "closed form of ProLIP", words, as_in_prolip)
    for key, name, words in both():
        yield Row(
            "convolution over time", f"convolution, {key}", f"{name}, convolution", words,
            encoder=CONVOLUTION, beside=f"convolution, {INFO_NCE}",
            untrained="untrained convolution" if key == PROVICO else "",
        )  # fmt: skip
    halves = "--task.loss.views=halves"
    yield _part("views", "halves", "two mixtures, of halves of the clips", halves)
    for samples in (1, 16, 8):
        option = f"--task.loss.samples={samples}"
        yield _part("samples", f"k-{samples}", f"K = {samples} (default 4)", option)
    for count in videos:
        for key, name, words in both():
            yield Row(
                "train clips", f"{count}, {key}", f"{name}, {count} train clips", words,
                videos=count, beside=f"{count}, {INFO_NCE}",
            )  # fmt: skip


def at_rates(rates: Sequence[float], chosen: Mapping[str, float]) -> Iterator[Row]:
    """The two systems at the learning rates that were not chosen."""
    for rate in rates:
        for key, name, words in both():
            if key in chosen and chosen[key] != rate:
                at, other = f"{rate:g}", chosen.get(INFO_NCE) != rate
                yield Row(
                    "rates", f"rate {at}, {key}", f"{name}, rate {at}", words, rate=rate,
                    beside=f"rate {at}, {INFO_NCE}" if other else INFO_NCE,
                )  # fmt: skip


def _part(block: str, key: str, name: str, *options: str) -> Row:
    """A row that changes a part of ProViCo's loss alone."""
    return Row(block, key, name, heads=options)


def decoded() -> Iterator[Row]:
    """The rows on decoded clips."""
    for key, name, words in both():
        untrained = "untrained network" if key == PROVICO else ""
        yield Row("decoded clips", key, name, words, encoder="residual-clips", untrained=untrained)


def both() -> Iterator[tuple[str, str, Sequence[str]]]:
    """The deterministic system and the default: key, name, words of the loss."""
    yield INFO_NCE, "InfoNCE", ("task.loss:info-nce",)
    yield PROVICO, "ProViCo", ()


CLAIMS = (
    ("ProViCo above InfoNCE", PROVICO, INFO_NCE),
    ("... with a convolution over time", f"convolution, {PROVICO}", f"convolution, {INFO_NCE}"),
    ("... on motion", f"motion, {PROVICO}", f"motion, {INFO_NCE}"),
    ("... on features and motion", f"both, {PROVICO}", f"both, {INFO_NCE}"),
    ("training helps heads", PROVICO, "untrained heads"),
    ("training helps a convolution", f"convolution, {PROVICO}", "untrained convolution"),
    ("mixture above one Gaussian", PROVICO, GAUSSIAN),
    ("one Gaussian above a point", GAUSSIAN, POINT),
    ("mixture above a point", PROVICO, POINT),
    ("samples of moments above samples of clips", PROVICO, "components"),
    ("whole videos above halves", PROVICO, "halves"),
    ("regulariser helps", PROVICO, "regulariser-off"),
    ("weight helps", PROVICO, "weight-off"),
    ("KL helps", PROVICO, "kl-off"),
    ("all three help", PROVICO, "all-off"),
    ("four samples above one", PROVICO, "k-1"),
    ("mined pairs help", PROVICO, "self-pairs"),
    ("quantile above a fixed threshold", PROVICO, FIXED),
    ("sampled above PCME++'s closed form", PROVICO, "pcme++"),
    ("sampled above ProLIP's closed form", PROVICO, "prolip"),
    ("convolution above mean of frames", f"convolution, {PROVICO}", PROVICO),
    ("heads on motion above raw features", f"motion, {PROVICO}", "raw features"),
    ("heads on both above raw features", f"both, {PROVICO}", "raw features"),
    ("heads on both above raw motion", f"both, {PROVICO}", "raw motion"),
    ("heads on both above raw both", f"both, {PROVICO}", "raw both"),
    ("raw motion above raw features", "raw motion", "raw features"),
)
"""What the paper says or implies, and what we ask: the claim, and the keys of the two systems. What
is not measured is left out."""


def claims(chosen: Mapping[str, float]) -> Iterator[tuple[str, str, str]]:
    """CLAIMS, and ProViCo above InfoNCE with the same learning rate for both, at each other rate.

    chosen: the learning rate of every row, by key. Rows at other rates than the chosen ones are
    those of `at_rates`.
    """

    def at(key: str, rate: float) -> str:
        return key if chosen[key] == rate else f"rate {rate:g}, {key}"

    yield from CLAIMS
    if {INFO_NCE, PROVICO} <= chosen.keys():
        for rate in sorted(set(chosen.values())):
            pair = at(PROVICO, rate), at(INFO_NCE, rate)
            if pair != (PROVICO, INFO_NCE):  # the first claim
                yield f"ProViCo above InfoNCE, both at rate {rate:g}", *pair

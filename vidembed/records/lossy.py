"""What a dtype would take away of a set of videos, or what is of another scale, with the remedy."""

from collections.abc import Mapping

from vidembed.records.bytecode import STEP
from vidembed.records.checks import Checks
from vidembed.records.rounding import WARN_ABOVE, Rounding

_FAR = 10.0  # each of 2,950 videos of YouTube-8M lies at 0.27 to 2.5, by itself


def appended_rounded(
    checks: Checks, dtype: str, *, among: Mapping[str, Rounding], beyond: float
) -> list[str]:
    """The modalities of which a table's dtype would round appended values by more than that share
    of their spread, or, of a few, of their size or the table's spread; a sentence each, with the
    remedy. among: of the table, modality → what is known of its rows."""
    return [
        f"{name}: {dtype} rounds the appended values (they reach from {modality.low:.3g} to "
        f"{modality.high:.3g}) by {share:.1%} of what they hold: these videos would become alike. "
        "See that they are of the scale of the table's features; a higher --max-rounding accepts "
        "them"
        for name, modality in checks.modalities.items()
        if (share := modality.rounding.share_of_few(dtype, among.get(name))) > beyond
    ]


def off_scale(checks: Checks, among: Mapping[str, Rounding]) -> list[str]:
    """The modalities of which appended values are of another scale than the table's, a sentence
    each. among: of the table, modality → what is known of its rows."""
    return [
        f"{name}: the appended videos (values from {modality.low:.3g} to {modality.high:.3g}) lie "
        f"{distance:.2g} times as far from the mean of the table as its own videos do: see that "
        "one network made both, and scaled them alike"
        for name, modality in checks.modalities.items()
        if name in among
        and not 1 / _FAR <= (distance := modality.rounding.distance(among[name])) <= _FAR
    ]


def rounded(checks: Checks, dtype: str, *, beyond: float = WARN_ABOVE) -> list[str]:
    """The modalities of which a dtype would round away more than that share of their spread (or
    half of their dimensions; without `beyond` a tenth), a sentence each, with the remedy."""
    parts = 10 if beyond == WARN_ABOVE else 2
    sentences = []
    for name, modality in checks.modalities.items():
        share, coarse = modality.rounding.share(dtype), modality.rounding.coarse(dtype)
        if share > beyond or coarse > modality.width / parts:
            steps = f", with a step of {STEP:.4f}," if dtype == "uint8" else ""
            sentences.append(
                f"{name}: {dtype}{steps} rounds the values (they reach from {modality.low:.3g} to "
                f"{modality.high:.3g}) by {share:.1%} of their spread, and {coarse} of "
                f"{modality.width} dimensions vary by hardly more than a step: videos come closer "
                f"to one another or become alike; store {modality.fitting} "
                f"(--dtype {modality.fitting})"
            )
    return sentences


def clipping(checks: Checks, *, allowed_share: float) -> list[str]:
    """The modalities of which quantising to uint8 would clip too many values, a sentence each."""
    return [
        f"{name}: {modality.clipped_share:.2%} of the values lie outside [-2, 2] (they reach from "
        f"{modality.low:.3g} to {modality.high:.3g}) and uint8 would clip them; allowed are "
        f"{allowed_share:.2%}: store bfloat16 or float32 (--dtype bfloat16)"
        for name, modality in checks.modalities.items()
        if modality.clipped_share > allowed_share
    ]

"""Sentences about features that a dtype would round or clip, or that are of another scale."""

from collections.abc import Mapping

from vidembed.records.checks import Checks
from vidembed.records.rounding import WARN_ABOVE, Rounding

_FAR = 10.0  # single videos among 2,950 of YouTube-8M are at 0.27 to 2.5


def appended_rounded(
    checks: Checks, dtype: str, *, among: Mapping[str, Rounding], beyond: float
) -> list[str]:
    """Sentences on modalities whose appended values the table's dtype would round too much.

    Too much is more than the share `beyond` of their spread, or, for a few rows, of their size or
    of the table's spread. among: modality → statistics of the table's rows.
    """
    return [
        f"{name}: {dtype} rounds the appended values (from {modality.low:.3g} to "
        f"{modality.high:.3g}) by {share:.1%} of their size or spread: these videos would become "
        "nearly identical. Check that they have the scale of the table's features, or raise "
        "--max-rounding to accept them"
        for name, modality in checks.modalities.items()
        if (share := modality.rounding.share_of_few(dtype, among.get(name))) > beyond
    ]


def off_scale(checks: Checks, among: Mapping[str, Rounding]) -> list[str]:
    """Sentences on modalities whose appended values have another scale than the table's.

    among: modality → statistics of the table's rows.
    """
    return [
        f"{name}: the appended videos (values from {modality.low:.3g} to {modality.high:.3g}) lie "
        f"{distance:.2g} times as far from the mean of the table as its own videos do: check that "
        "the same network made both, with the same scaling"
        for name, modality in checks.modalities.items()
        if name in among
        and not 1 / _FAR <= (distance := modality.rounding.distance(among[name])) <= _FAR
    ]


def rounded(checks: Checks, dtype: str, *, beyond: float = WARN_ABOVE) -> list[str]:
    """Sentences on modalities that a dtype would round too much, with the remedy.

    Too much is more than the share `beyond` of their spread, or a coarse step in more than half of
    their dimensions (for the default `beyond`, a tenth).
    """
    parts = 10 if beyond == WARN_ABOVE else 2
    sentences = []
    for name, modality in checks.modalities.items():
        share, coarse = modality.rounding.share(dtype), modality.rounding.coarse(dtype)
        if share > beyond or coarse > modality.width / parts:
            steps = f", with a step of {modality.range.step:.4g}," if dtype == "uint8" else ""
            sentences.append(
                f"{name}: {dtype}{steps} rounds the values (from {modality.low:.3g} to "
                f"{modality.high:.3g}) by {share:.1%} of their spread, and {coarse} of "
                f"{modality.width} dimensions vary by hardly more than a step: videos would become "
                f"more similar or identical; store {modality.fitting} "
                f"(--dtype {modality.fitting})"
            )
    return sentences


FEW_CLIPPED = 0.001
"""The share of appended values that a range of bytes may clip without a warning."""


def clipping(checks: Checks, *, allowed_share: float) -> list[str]:
    """Sentences on modalities in which quantising to uint8 would clip too many values."""
    return [
        f"{name}: {modality.clipped_share:.2%} of the values lie outside {modality.range} (from "
        f"{modality.low:.3g} to {modality.high:.3g}) and uint8 would clip them; at most "
        f"{allowed_share:.2%} is allowed: store bfloat16 or float32 (--dtype bfloat16)"
        for name, modality in checks.modalities.items()
        if modality.clipped_share > allowed_share
    ]

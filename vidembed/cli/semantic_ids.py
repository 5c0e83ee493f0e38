"""`python -m vidembed semantic-ids`: a few numbers per video that say what it is near to."""

from typing import Annotated

import tyro

from vidembed.deploy.semantic_ids import assign_ids, codebook_of
from vidembed.progress import Progress

EVEN_SHARE = 0.25
"""Of the size of a level: where perplexity is below it, most of the codes hardly serve."""


def main(
    vectors: Annotated[str, tyro.conf.arg(metavar="VECTORS")],
    out: Annotated[str, tyro.conf.arg(metavar="OUT")],
    *,
    sizes: tuple[int, ...] = (256, 256, 256),
    seed: int = 0,
    codebook: str = "",
    continued: Annotated[str, tyro.conf.arg(name="continue")] = "",
    force: bool = False,
) -> None:
    """Semantic IDs: video_id, code_1 to code_L, and tie, which makes them unique.

    Codes are those of residual k-means: the more of the first ones two videos share, the nearer
    their vectors. Running it again is safe: OUT is there whole or not at all, the same IDs are
    recognised, and others stay unless --force is given.

    Args:
        vectors: what `python -m vidembed embed` wrote (.parquet, .npy or a table), or an index.
        out: OUT.parquet; beside it OUT.codebook is written, by which later videos are encoded.
        sizes: codes of each level, for new codebooks.
        seed: of k-means, for new codebooks.
        codebook: encode by this file instead. It gives the same codes; ties begin anew.
        continued: IDs from before, an OUT.parquet with its codebook beside it. All of them stay as
            they are; videos that they lack are added.
        force: replace other IDs at OUT, and their codebook.
    """
    progress = Progress()
    made, there = assign_ids(
        vectors,
        out,
        sizes=sizes,
        seed=seed,
        codebook=codebook or None,
        continued=continued or None,
        force=force,
        progress=progress,
    )
    quality = made.made["quality"]
    for level, (of, size) in enumerate(zip(quality["levels"], made.made["sizes"]), 1):
        progress.say(
            f"level {level}: {of['used']:,} of {size:,} codes used, perplexity "
            f"{of['perplexity']:.0f}, {of['lost']:.1%} of these vectors' variance lost, "
            f"{of['prefixes']:,} different prefixes"
        )
        if of["perplexity"] < size * EVEN_SHARE:
            progress.say(f"most videos have a few codes of level {level}: --sizes may be smaller")
    progress.say(
        f"{quality['collisions']:,} of these videos share all codes with another, "
        f"{quality['largest']:,} at most; tie tells them apart"
    )
    if made.made["changed"]:
        progress.say(
            f"{made.made['changed']:,} of these videos have other codes by now, and keep their IDs"
        )
    if there:
        progress.say(f"{out}: the same IDs are there, made before")
    else:
        new = f"{made.made['new']:,} of them new; codebooks: {codebook_of(out)}"
        progress.say(f"{out}: {len(made.ids):,} videos, {new}")
    progress.say(f"space: {made.made['space']}")

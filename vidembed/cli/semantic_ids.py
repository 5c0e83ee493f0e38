"""`python -m vidembed semantic-ids`: give each video a short code that similar videos share."""

from typing import Annotated

import tyro

from vidembed.deploy.semantic_ids import assign_ids, codebook_of
from vidembed.progress import Progress

EVEN_SHARE = 0.25
"""Share of a level's size; with a perplexity below it, most codes are hardly used."""


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
    """Assign semantic IDs: video_id, code_1 to code_L, and tie, which makes the IDs unique.

    Codes come from residual k-means: the more leading codes two videos share, the nearer their
    vectors. Running it again is safe: OUT is written completely or not at all, the same IDs are
    recognised, and different ones are kept unless --force is given.

    Args:
        vectors: output of `python -m vidembed embed` (.parquet, .npy or a table), or an index.
        out: OUT.parquet; OUT.codebook is written beside it, to encode later videos.
        sizes: number of codes of each level, for new codebooks.
        seed: random seed of k-means, for new codebooks.
        codebook: encode with this file instead. Codes are the same; ties are numbered anew.
        continued: earlier IDs, an OUT.parquet with its codebook beside it. They are unchanged; only
            videos without an ID are added.
        force: replace different IDs at OUT, and their codebook.
    """
    progress = Progress()
    made, exists = assign_ids(
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
            progress.say(f"most videos use a few codes of level {level}: try smaller --sizes")
    progress.say(
        f"{quality['collisions']:,} of these videos share all codes with another video, at most "
        f"{quality['largest']:,} the same ones; tie distinguishes them"
    )
    if made.made["changed"]:
        progress.say(
            f"{made.made['changed']:,} of these videos would get other codes today; they keep "
            "their IDs"
        )
    if exists:
        progress.say(f"{out}: these IDs exist already; nothing to do")
    else:
        new = f"{made.made['new']:,} of them new; codebooks: {codebook_of(out)}"
        progress.say(f"{out}: {len(made.ids):,} videos, {new}")
    progress.say(f"space: {made.made['space']}")

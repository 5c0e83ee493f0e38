"""Which checkpoints may go."""

from collections.abc import Collection


def stale_steps(
    steps: Collection[int],
    *,
    keep_last: int,
    keep_every: int | None = None,
    pinned: Collection[int] = (),
    measured: Collection[int] | None = None,
) -> list[int]:
    """The steps to delete, in ascending order; every other one is kept, for one of these reasons.

    keep_last: the newest so many (at least 1: the newest is what a restart needs).
    keep_every: multiples of it, for ever; None for no such rule.
    pinned: steps that an evaluation named best.
    measured: the steps that the attached evaluation job has measured; any other is kept until
    it has. None when no job is attached: then nothing waits to be measured.
    """
    if keep_last < 1:
        raise ValueError(
            f"keep_last is {keep_last}: at least 1, the newest is what a restart needs"
        )
    if keep_every is not None and keep_every < 1:
        raise ValueError(f"keep_every is {keep_every} steps: at least 1, or None for no such rule")
    newest = set(sorted(steps)[-keep_last:])
    return [
        step
        for step in sorted(steps)
        if step not in newest
        and step not in pinned
        and not (keep_every and step % keep_every == 0)
        and (measured is None or step in measured)
    ]

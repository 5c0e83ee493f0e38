"""What an evaluation job that follows a run knows of the process that trains there."""

import time
from collections.abc import Callable

from vidembed.workdir.layout import Workdir

POLL_SECONDS = 2.0
PATIENCE_SECONDS = 300.0


class TrainerGoneError(RuntimeError):
    """A run that is not done has had nobody who trains it for too long."""


class Watch:
    """Looks again and again whether somebody trains in a work directory, or whether it is DONE.

    That nobody does is said at once, for a training that was killed may be started again; after
    `patience_seconds` of it the wait is over, and `gone` says why.
    """

    def __init__(
        self, workdir: Workdir, say: Callable[[str], None], *, patience_seconds: float
    ) -> None:
        self._workdir, self._say, self._patience = workdir, say, patience_seconds
        self._alone_since: float | None = None
        self.gone = ""

    def is_over(self) -> bool:
        """Whether there is nothing to wait for any more."""
        # While a trainer holds the work directory it may go on, whatever DONE says.
        why = self._workdir.why_not_leased()
        if not why:
            self._alone_since = None
            return False
        if self._workdir.done() is not None:
            return True
        now = time.monotonic()
        if self._alone_since is None:
            self._alone_since = now
            self._say(
                f"WARNING: nobody trains in {self._workdir}: {why}. Waiting "
                f"{self._patience:,.0f} s for the training to be started again "
                "(--patience-seconds)"
            )
        elif now - self._alone_since >= self._patience:
            self.gone = (
                f"{self._workdir} is not DONE, and nobody trained there for "
                f"{self._patience:,.0f} s: {why}. All checkpoints that are there are measured. "
                "Start the training again, it goes on from its newest checkpoint; and then this "
                "command"
            )
        return bool(self.gone)


def await_run(
    workdir: Workdir,
    say: Callable[[str], None],
    sleep: Callable[[float], object] = time.sleep,
    *,
    patience_seconds: float,
) -> None:
    """Returns when a training has begun in a work directory: its recipe is known then. Raises
    ValueError if none has for so long."""
    if workdir.read_recipe() is not None:
        return
    say(
        f"waiting {patience_seconds:,.0f} s for a training to begin in {workdir} "
        "(--patience-seconds)"
    )
    begun = time.monotonic()
    while workdir.read_recipe() is None:
        if time.monotonic() - begun >= patience_seconds:
            raise ValueError(
                f"no training has begun in {workdir} for {patience_seconds:,.0f} s: is it the "
                "--workdir of one? Give more --patience-seconds to wait longer"
            )
        sleep(POLL_SECONDS)
    # What it is measured by is stored right after the recipe.
    sleep(POLL_SECONDS)

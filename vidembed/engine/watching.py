"""Let an evaluation job watch whether a training process is active in its work directory."""

import time
from collections.abc import Callable

from vidembed.workdir.layout import Workdir

POLL_SECONDS = 2.0
PATIENCE_SECONDS = 300.0


class TrainerGoneError(RuntimeError):
    """A run is not done, and no training has been active for too long."""


class Watch:
    """Polls whether a training is active in a work directory, or whether the run is DONE.

    If no training is active, it warns at once, because a killed training may be restarted. After
    `patience_seconds` the wait is over, and `gone` gives the reason.
    """

    def __init__(
        self, workdir: Workdir, say: Callable[[str], None], *, patience_seconds: float
    ) -> None:
        self._workdir, self._say, self._patience = workdir, say, patience_seconds
        self._alone_since: float | None = None
        self.gone = ""

    def is_over(self) -> bool:
        """Whether there is nothing left to wait for."""
        # A trainer that holds the work directory may still extend a run that is DONE.
        reason = self._workdir.why_not_leased()
        if not reason:
            self._alone_since = None
            return False
        if self._workdir.done() is not None:
            return True
        now = time.monotonic()
        if self._alone_since is None:
            self._alone_since = now
            self._say(
                f"WARNING: no training is active in {self._workdir}: {reason}. Waiting "
                f"{self._patience:,.0f} s for the training to restart (--patience-seconds)"
            )
        elif now - self._alone_since >= self._patience:
            self.gone = (
                f"{self._workdir} is not DONE, and no training was active there for "
                f"{self._patience:,.0f} s: {reason}. All existing checkpoints are measured. "
                "Restart the training, which resumes from its newest checkpoint, and then this "
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
    """Waits until a training has begun in a work directory, when its recipe is known. Raises
    ValueError if none begins within `patience_seconds`."""
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
                f"no training has begun in {workdir} within {patience_seconds:,.0f} s: check "
                "--workdir, or raise --patience-seconds to wait longer"
            )
        sleep(POLL_SECONDS)
    # The evaluation is stored right after the recipe.
    sleep(POLL_SECONDS)

"""What it is to be stopped: the exception and the exit code. Without JAX, which takes a second."""

EXIT_STOPPED = 143
"""What a process ends with after it was asked to stop and has saved: 128 + SIGTERM, as shells and
schedulers expect of a process that SIGTERM ended. The same command goes on from there."""


class StoppedError(BaseException):
    """Asked to stop, where there was nothing (more) to save.

    Like KeyboardInterrupt it may come at any line, and is no `Exception`: whoever explains or
    forgives the faults of what it interrupts must not take it for one.
    """

    def __init__(self, message: str = "stopped as asked, with nothing to save") -> None:
        super().__init__(message)

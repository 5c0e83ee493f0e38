"""The exception and exit code of a stop request. Without importing JAX, which takes a second."""

EXIT_STOPPED = 143
"""Exit code after a stop request, once the run is saved: 128 + SIGTERM, which shells and schedulers
expect from a process ended by SIGTERM. The same command resumes from there."""


class StoppedError(BaseException):
    """Raised by a stop request while there is nothing (more) to save.

    Like KeyboardInterrupt it may occur at any line, and it derives from BaseException so that
    `except Exception` cannot swallow it.
    """

    def __init__(self, message: str = "stopped as asked, with nothing to save") -> None:
        super().__init__(message)

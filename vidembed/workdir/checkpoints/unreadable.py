"""Decide why a checkpoint could not be read: it is damaged, or the disk has a fault."""

import errno
import os
import re
from collections.abc import Iterator

import jax
from etils import epath

from vidembed import files
from vidembed.workdir.checkpoints.record import DigestError, in_short

_OF_THE_FORMAT = (errno.ENOENT, errno.ENOTDIR, errno.EISDIR)
"""A part is missing or not a file: the checkpoint is incomplete."""
_OF_THE_DISK = (
    errno.EIO, errno.EACCES, errno.EPERM, errno.ENOMEM, errno.EMFILE, errno.ENFILE, errno.ESTALE,
    errno.ETIMEDOUT, errno.ENOTCONN, errno.EHOSTDOWN, errno.EREMOTEIO, errno.ELOOP,
)  # fmt: skip
_STATES = "PERMISSION_DENIED|UNAUTHENTICATED|UNAVAILABLE|DEADLINE_EXCEEDED|RESOURCE_EXHAUSTED"
_READ_BYTES = 1 << 22


def unreadable(step: int, error: Exception, folder: epath.Path, before: str) -> Exception:
    """The exception to raise for a step that Orbax could not read from `folder`.

    A DigestError, ending with `before`, if the data are at fault. An OSError with the system's
    reason if disk or network is at fault: the step is then intact and must not be set aside.
    `error` itself if memory is exhausted.
    """
    causes = list(_causes(error))
    if any(isinstance(cause, MemoryError | jax.errors.JaxRuntimeError) for cause in causes):
        return error
    for cause in causes:
        if isinstance(cause, OSError) and cause.errno not in (None, *_OF_THE_FORMAT):
            return _of_the_disk(cause.errno, cause.strerror, cause.filename or folder)
        # TensorStore's errors contain the system's error number or message.
        known = [int(number) for number in re.findall(r"os_error_code='(\d+)'", str(cause))]
        known += [number for number in _OF_THE_DISK if os.strerror(number) in str(cause)]
        for number in known:
            if number not in _OF_THE_FORMAT:
                return _of_the_disk(number, os.strerror(number), folder)
        if state := re.match(_STATES, str(cause)):
            return _of_the_disk(errno.EIO, f"{state.group()}: {in_short(cause)}", folder)
    if not files.is_remote(folder):
        try:
            _read_all(folder)
        except OSError as fault:
            if fault.errno not in _OF_THE_FORMAT:
                return _of_the_disk(fault.errno, fault.strerror, fault.filename or folder)
    return DigestError(f"step {step} is damaged, Orbax cannot read it: {in_short(error)}. {before}")


def _of_the_disk(number: int | None, why: str | None, place: object) -> OSError:
    remedy = "the checkpoint stays as it is, and the same command resumes once it can be read"
    return OSError(number or errno.EIO, f"{why}; {remedy}", str(place))


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def _read_all(folder: epath.Path) -> None:
    """Read every byte below the folder, so that a failing disk raises its own error."""

    def fail(fault: OSError) -> None:
        raise fault

    for place, _, names in os.walk(folder, onerror=fail):
        for name in names:
            with open(os.path.join(place, name), "rb") as file:
                while file.read(_READ_BYTES):
                    pass

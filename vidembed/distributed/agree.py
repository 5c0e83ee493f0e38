"""Agreement between hosts, so that none waits forever for a host that took another path.

Every process must call these functions in the same order; with one process they cost nothing.
"""

import json
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import jax
import numpy as np
from jax.experimental import multihost_utils

T = TypeVar("T")
_OWN_FAULTS = (
    "RESOURCE_EXHAUSTED",
    "INVALID_ARGUMENT",
    "OUT_OF_RANGE",
    "NOT_FOUND",
    "ALREADY_EXISTS",
    "PERMISSION_DENIED",
    "UNAUTHENTICATED",
    "UNIMPLEMENTED",
)
"""Error codes of the runtime about this process (its memory, its program), not about others."""


class HostsDifferError(ValueError):
    """The hosts of one run were started with different options or different data."""


def is_first_host() -> bool:
    """Whether this process is the one that writes small files and prints."""
    return jax.process_index() == 0


def meet(name: str) -> None:
    """Wait until every process has reached this point."""
    if jax.process_count() > 1:
        multihost_utils.sync_global_devices(name)


def of_first_host(numbers: list[int]) -> list[int]:
    """The first host's numbers (below 2^31) on all hosts, which may see a folder differently."""
    if jax.process_count() == 1:
        return numbers
    length = int(multihost_utils.broadcast_one_to_all(np.int32(len(numbers))))
    mine = np.resize(np.array(numbers or [0], np.int32), length)
    return [int(number) for number in multihost_utils.broadcast_one_to_all(mine)]


def arrays_of_first_host(tree: T) -> T:
    """The first host's arrays, in NumPy, on all hosts: different hardware rounds differently."""
    if jax.process_count() == 1:
        return tree
    received: T = jax.tree.map(np.asarray, multihost_utils.broadcast_one_to_all(tree))
    return received


def record_of_first_host(record: dict[str, Any] | None) -> dict[str, Any] | None:
    """The first host's JSON object on all hosts."""
    text = json.dumps(record).encode()
    known: dict[str, Any] | None = json.loads(bytes(of_first_host(list(text))))
    return known


def together(work: Callable[[], T], *errors: type[Exception]) -> T:
    """The result of `work` if it succeeds on every host; otherwise all hosts raise the same type.

    errors: the exceptions that `work` may raise; a subclass must come after its base class. If
    hosts raise different types, the one listed last counts. Hosts that did not raise it themselves
    raise it with the message of one that did.
    """
    result: list[T] = []
    error: Exception | None = None
    try:
        result.append(work())
    except errors as raised:
        error = raised
    if jax.process_count() > 1:
        kinds = [place for place, kind in enumerate(errors, 1) if isinstance(error, kind)]
        mine = max(kinds, default=0)
        codes = np.asarray(multihost_utils.process_allgather(np.int32(mine)))
        if worst := int(codes.max()):
            words = _texts_of_all(str(error) if mine == worst else "")
            if mine != worst:
                host = int(np.argmax(codes == worst))
                raise errors[worst - 1](f"process {host}: {words[host]}") from error
    if error is not None:
        raise error
    return result[0]


def agree(mine: Mapping[str, Any]) -> None:
    """Raise HostsDifferError, on every host, unless all hosts give equal values.

    mine: JSON values, possibly nested. The message names each field that differs, with its values
    and the processes that have them.
    """
    if jax.process_count() == 1:
        return
    values_of_all = [
        _flat(json.loads(text)) for text in _texts_of_all(json.dumps(mine, sort_keys=True))
    ]
    lines = []
    for field in sorted(set().union(*values_of_all)):
        processes: dict[str, list[int]] = {}
        for process, values in enumerate(values_of_all):
            processes.setdefault(values.get(field, "(absent)"), []).append(process)
        if len(processes) > 1:
            shown = "; ".join(f"{value} on {_named(group)}" for value, group in processes.items())
            lines.append(f"  {field}: {shown}")
    if lines:
        raise HostsDifferError(
            "the hosts of this run were not started alike:\n"
            + "\n".join(lines)
            + "\nNothing was changed. Give every host the same command and the same data."
        )


def lost_host(error: Exception) -> str | None:
    """The message for a runtime fault in a run of several processes; None for other faults.

    Such a fault most often means that another process has ended; its own output gives the reason.
    Faults of this process by their code, such as exhausted memory, do not count.
    """
    # On CPU, depending on the collective, it is a ValueError of Gloo or a JaxRuntimeError.
    causes: list[BaseException] = [error]
    while (cause := causes[-1].__cause__) is not None:
        causes.append(cause)
    runtime = [
        cause
        for cause in causes
        if "Gloo" in str(cause)
        or (
            isinstance(cause, jax.errors.JaxRuntimeError) and not str(cause).startswith(_OWN_FAULTS)
        )
    ]
    if jax.process_count() == 1 or not runtime:
        return None
    return (
        f"process {jax.process_index()} of {jax.process_count()} cannot continue: "
        f"{str(error)[:300]}\nMost often this means that another process was lost; its own output "
        "gives the reason. All processes end now. Start the same command again on every host to "
        "resume from the last checkpoint"
    )


def _texts_of_all(mine: str) -> list[str]:
    """The texts of all processes, in order of the processes."""
    text = np.frombuffer(mine.encode(), np.uint8)
    lengths = multihost_utils.process_allgather(np.int32(len(text)))
    padded = np.zeros(lengths.max(), np.uint8)
    padded[: len(text)] = text
    rows = multihost_utils.process_allgather(padded)
    return [row[:length].tobytes().decode() for row, length in zip(rows, lengths, strict=True)]


def _flat(value: Any, path: str = "") -> dict[str, str]:
    """Dotted path → JSON text of each leaf."""
    if not isinstance(value, dict) or not value:
        return {path: json.dumps(value)}
    leaves: dict[str, str] = {}
    for name, below in value.items():
        leaves |= _flat(below, f"{path}.{name}" if path else name)
    return leaves


def _named(processes: list[int]) -> str:
    numbers = ", ".join(map(str, processes[:5])) + (" ..." if processes[5:] else "")
    return f"process {numbers}" if len(processes) == 1 else f"processes {numbers}"

"""What several hosts must agree on, lest one waits for ever for another that went elsewhere.

Each function is called by every process, in the same order; with one process it costs nothing.
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
"""Codes of the runtime that speak of this process (its memory, its program), not of others."""


class HostsDifferError(ValueError):
    """The hosts of one run were started with different options or different data."""


def is_first_host() -> bool:
    """Whether this process is the one that writes small files and speaks."""
    return jax.process_index() == 0


def meet(name: str) -> None:
    """Returns when every process has come to this place."""
    if jax.process_count() > 1:
        multihost_utils.sync_global_devices(name)


def of_first_host(numbers: list[int]) -> list[int]:
    """The first host's numbers (below 2^31), for all: two looks at one folder may differ."""
    if jax.process_count() == 1:
        return numbers
    length = int(multihost_utils.broadcast_one_to_all(np.int32(len(numbers))))
    mine = np.resize(np.array(numbers or [0], np.int32), length)
    return [int(number) for number in multihost_utils.broadcast_one_to_all(mine)]


def arrays_of_first_host(tree: T) -> T:
    """The first host's arrays, in numpy, for all: hosts of two kinds round differently."""
    if jax.process_count() == 1:
        return tree
    found: T = jax.tree.map(np.asarray, multihost_utils.broadcast_one_to_all(tree))
    return found


def record_of_first_host(record: dict[str, Any] | None) -> dict[str, Any] | None:
    """The first host's JSON, for all."""
    text = json.dumps(record).encode()
    known: dict[str, Any] | None = json.loads(bytes(of_first_host(list(text))))
    return known


def together(work: Callable[[], T], *errors: type[Exception]) -> T:
    """The result of `work` if it succeeds on every host; otherwise all hosts raise the same type.

    errors: what `work` may raise; of a type and one below it, the latter is named after it. If
    hosts raise different ones, the type that is named last counts. Hosts that did not meet it
    raise it with the words of one that did.
    """
    result: list[T] = []
    error: Exception | None = None
    try:
        result.append(work())
    except errors as met:
        error = met
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
    """Raises HostsDifferError, on every host, unless all hosts give equal values.

    mine: JSON values, nested as they like. The message names each field that differs, with its
    values and the processes that have them.
    """
    if jax.process_count() == 1:
        return
    told = [_flat(json.loads(text)) for text in _texts_of_all(json.dumps(mine, sort_keys=True))]
    lines = []
    for field in sorted(set().union(*told)):
        have: dict[str, list[int]] = {}
        for process, values in enumerate(told):
            have.setdefault(values.get(field, "(absent)"), []).append(process)
        if len(have) > 1:
            shown = "; ".join(f"{value} on {_named(who)}" for value, who in have.items())
            lines.append(f"  {field}: {shown}")
    if lines:
        raise HostsDifferError(
            "the hosts of this run were not started alike:\n"
            + "\n".join(lines)
            + "\nNothing was changed. Give every host the same command and the same data."
        )


def lost_host(error: Exception) -> str | None:
    """The message for a fault of the runtime in a run of several processes; else None.

    It most often means that another process has ended; its own output says why. Faults that are
    this process's own by their code, such as memory that is used up, are not among them.
    """
    # On CPU it is a ValueError of Gloo or a JaxRuntimeError, by the collective that met it.
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
        f"process {jax.process_index()} of {jax.process_count()} cannot go on: "
        f"{str(error)[:300]}\nMost often this means that another process was lost; its own output "
        "says why. All end now. Start the same command again on every host: it goes on from the "
        "last checkpoint"
    )


def _texts_of_all(mine: str) -> list[str]:
    """The texts that all processes give, by process."""
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
    found: dict[str, str] = {}
    for name, below in value.items():
        found |= _flat(below, f"{path}.{name}" if path else name)
    return found


def _named(processes: list[int]) -> str:
    numbers = ", ".join(map(str, processes[:5])) + (" ..." if processes[5:] else "")
    return f"process {numbers}" if len(processes) == 1 else f"processes {numbers}"

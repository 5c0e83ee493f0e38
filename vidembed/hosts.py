"""What several hosts must agree on, lest one waits for ever for another that went elsewhere.

Each function is called by every process, in the same order; with one process it costs nothing.
"""

from collections.abc import Callable
from typing import TypeVar

import jax
import numpy as np
from jax.experimental import multihost_utils

T = TypeVar("T")


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


def together(work: Callable[[], T], *errors: type[Exception]) -> T:
    """The result of `work` if it succeeds on every host; otherwise all hosts raise.

    errors: what `work` may raise (exactly these types). A host that had none of its own raises
    the last-named type that another met.
    """
    result: list[T] = []
    error: Exception | None = None
    try:
        result.append(work())
    except errors as met:
        error = met
    if jax.process_count() > 1:
        mine = 0 if error is None else 1 + errors.index(type(error))
        worst = int(multihost_utils.process_allgather(np.int32(mine)).max())
        if worst and error is None:
            raise errors[worst - 1]("another host met this; its own words are in its output")
    if error is not None:
        raise error
    return result[0]

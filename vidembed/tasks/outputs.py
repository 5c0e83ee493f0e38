"""A named output of a task: what it computes, what it reads for that, and what it needs."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax


@dataclass(frozen=True, kw_only=True)
class Output:
    """Vectors that trained parameters make of the rows of a source."""

    apply: Callable[[Any, Any, Any], jax.Array]
    """(parameters, state, arrays) → f32[B, D]; a pure function that may be compiled. `arrays` is
    what `read` returned, on the devices."""
    read: Callable[[Any, Any], Any]
    """(source, rows i64[B]) → a pytree of numpy arrays [B, ...]: what `apply` reads of these rows
    of a source, in its stored dtypes."""
    needs: tuple[str, ...]
    """Beginnings of paths of the training state, such as "parameters/towers": a checkpoint is read
    at these alone. Where a run keeps an average of the parameters, it stands for them."""

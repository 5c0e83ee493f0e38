"""A named output of a task: its function, the arrays it reads, and the parameters it needs."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np


@dataclass(frozen=True, kw_only=True)
class Output:
    """Vectors computed from the rows of a source with trained parameters."""

    apply: Callable[[Any, Any, Any], jax.Array]
    """(parameters, state, arrays) → f32[B, D]; a pure function that can be compiled. `arrays` is
    the result of `read`, on the devices."""
    read: Callable[[Any, Any], Any]
    """(source, rows i64[B]) → a pytree of numpy arrays [B, ...]: the inputs of `apply` for these
    rows of the source, in their stored dtypes."""
    needs: tuple[str, ...]
    """Path prefixes of the training state, such as "parameters/towers": only these are read from a
    checkpoint. If a run keeps averaged parameters, those are read instead."""
    lengths: Callable[[Any, Any], np.ndarray] | None = None
    """(source, rows i64[B]) → i64[B]: how long each row is, if `apply` needs time for the longest
    row of a block only. Rows of like length are then computed together."""

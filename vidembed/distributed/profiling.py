"""A trace of some steps, for `jax.profiler`'s viewers (TensorBoard, Perfetto)."""

import jax
from etils import epath

WARM_UP_STEPS = 10


class Profile:
    """Traces `steps` steps into `folder`, after some to warm up; 0 traces nothing."""

    def __init__(self, folder: epath.PathLike, *, steps: int) -> None:
        self._folder, self._steps = epath.Path(folder), steps
        self._seen = 0

    def before_step(self) -> None:
        """Starts or ends the trace where it is time to."""
        if self._steps and self._seen == WARM_UP_STEPS:
            jax.profiler.start_trace(str(self._folder))
        if self._steps and self._seen == WARM_UP_STEPS + self._steps:
            jax.profiler.stop_trace()
        self._seen += 1

    def close(self) -> None:
        """Ends a trace that is still open; says where it is, or why there is none."""
        if self._steps and self._seen <= WARM_UP_STEPS:
            print(f"no trace: it starts after {WARM_UP_STEPS} steps, {self._seen} were made")
        elif self._steps:
            print(f"trace of {self._steps} steps in {self._folder}")
        if self._steps and WARM_UP_STEPS < self._seen <= WARM_UP_STEPS + self._steps:
            jax.profiler.stop_trace()

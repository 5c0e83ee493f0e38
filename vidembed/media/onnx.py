"""Sessions of onnxruntime: what an ONNX graph takes and makes, and running it.

No other module imports onnxruntime, which is an extra and is imported when a graph is opened.
"""

import importlib.util
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

CPU = "CPUExecutionProvider"
NEEDED = "pip install 'vidembed[media]'"
_DTYPES = {
    "tensor(float)": "float32",
    "tensor(float16)": "float16",
    "tensor(double)": "float64",
    "tensor(uint8)": "uint8",
    "tensor(bool)": "bool",
}


class Tensor(NamedTuple):
    """An input or output of a graph."""

    dtype: str
    """As numpy calls it; ONNX's own name for types that no backbone takes."""
    shape: tuple[int | None, ...]
    """None where the size is free."""

    def __str__(self) -> str:
        sizes = ("any" if size is None else str(size) for size in self.shape)
        return f"{self.dtype}[{', '.join(sizes)}]"


def check_installed(package: str = "onnxruntime", why: str = "running an ONNX graph") -> None:
    """Raise ImportError with the command that installs the package, unless it is there."""
    if importlib.util.find_spec(package) is None:
        raise ImportError(f"{why} needs {package}, which is not installed: {NEEDED}")


def check_providers(providers: Sequence[str]) -> None:
    """Raise ValueError unless the installed onnxruntime offers these execution providers."""
    import onnxruntime

    offered = onnxruntime.get_available_providers()
    unknown = [provider for provider in providers if provider not in offered]
    if unknown or not providers:
        raise ValueError(
            f"provider {unknown[0] if unknown else '(none)'}: the installed onnxruntime offers "
            f"{', '.join(offered)}; choose one of them, or install a build of onnxruntime that "
            "has yours (for NVIDIA: onnxruntime-gpu in place of onnxruntime)"
        )


class Session:
    """An opened graph.

    providers: execution providers, the preferred one first. threads: of one operation; 0 leaves the
    number to onnxruntime (all cores). optimise: rewrite the graph for speed; False opens it faster,
    to look at its inputs and outputs.
    Raises ValueError for a graph that cannot be opened, or a provider that is not offered or does
    not start; ImportError without onnxruntime.
    """

    def __init__(
        self,
        content: bytes,
        *,
        name: str,
        providers: Sequence[str] = (CPU,),
        threads: int = 0,
        optimise: bool = True,
    ) -> None:
        check_installed()
        import onnxruntime

        check_providers(providers)
        if threads < 0:
            raise ValueError(f"threads is {threads}: give 0 (all cores) or a positive number")
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3  # errors are raised anyway
        options.intra_op_num_threads = threads
        level = onnxruntime.GraphOptimizationLevel
        options.graph_optimization_level = (
            level.ORT_ENABLE_ALL if optimise else level.ORT_DISABLE_ALL
        )
        try:
            self._session = onnxruntime.InferenceSession(
                content, options, providers=list(providers)
            )
        except Exception as error:  # onnxruntime raises types of its own, derived from Exception
            raise ValueError(
                f"{name}: onnxruntime cannot open this graph ({_first_line(error)}). Weights must "
                "be inside the file, not in a second one beside it (in Python: "
                "onnx.save_model(onnx.load(OLD), NEW))"
            ) from error
        started = self._session.get_providers()
        if providers[0] not in started:
            raise ValueError(
                f"provider {providers[0]} is offered but did not start (its libraries are missing "
                f"or do not match); onnxruntime would have used {', '.join(started)}"
            )
        self.name = name
        self.inputs = {entry.name: _tensor(entry) for entry in self._session.get_inputs()}
        self.outputs = {entry.name: _tensor(entry) for entry in self._session.get_outputs()}

    def run(self, output: str, arrays: Mapping[str, np.ndarray]) -> np.ndarray:
        """One output for these inputs. Raises ValueError if onnxruntime refuses them."""
        try:
            return np.asarray(self._session.run([output], dict(arrays))[0])
        except Exception as error:
            raise ValueError(f"{self.name}: onnxruntime failed: {_first_line(error)}") from error


def _tensor(entry: object) -> Tensor:
    sizes = [size if isinstance(size, int) and size >= 0 else None for size in entry.shape]  # type: ignore[attr-defined]
    dtype = entry.type  # type: ignore[attr-defined]
    return Tensor(_DTYPES.get(dtype, dtype), tuple(sizes))


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]

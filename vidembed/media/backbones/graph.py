"""Write ONNX graphs: nodes are added one by one, and names are given by count."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from vidembed.media.onnx import check_installed

OPSET, IR_VERSION = 17, 8
"""Read by every onnxruntime since 1.12 (2022)."""


class Graph:
    """A graph under construction, in float32, for any number of inputs.

    taken: name → shape of the inputs without the first axis, which is free.
    """

    def __init__(self, name: str, taken: Mapping[str, Sequence[int]]) -> None:
        check_installed("onnx", "writing the graph of a default backbone")
        self._name, self._taken = name, dict(taken)
        self._nodes: list[Any] = []
        self._tensors: list[Any] = []

    def constant(self, array: np.ndarray) -> str:
        """The name of a stored array."""
        import onnx.numpy_helper

        name = f"tensor_{len(self._tensors)}"
        self._tensors.append(onnx.numpy_helper.from_array(np.asarray(array, order="C"), name))
        return name

    def add(self, operation: str, *inputs: str | np.ndarray, to: str = "", **settings: Any) -> str:
        """Add a node; return the name of its output. Arrays among the inputs are stored.

        to: the name of the output, if it is one of the graph.
        """
        import onnx.helper

        names = [one if isinstance(one, str) else self.constant(one) for one in inputs]
        out = to or f"{operation.lower()}_{len(self._nodes)}"
        self._nodes.append(onnx.helper.make_node(operation, names, [out], **settings))
        return out

    def batch_norm(
        self, value: str, tensors: Mapping[str, np.ndarray], epsilon: float, to: str = ""
    ) -> str:
        """Normalisation by stored statistics; tensors: scale, bias, mean and variance, f32[C]."""
        order = (tensors[part] for part in ("scale", "bias", "mean", "variance"))
        return self.add("BatchNormalization", value, *order, to=to, epsilon=epsilon)

    def to_bytes(self, outputs: Mapping[str, int]) -> bytes:
        """The file; outputs: name → width of f32[N, width]. The graph is checked by onnx."""
        import onnx

        helper, kind = onnx.helper, onnx.TensorProto.FLOAT
        graph = helper.make_graph(
            self._nodes,
            self._name,
            [helper.make_tensor_value_info(n, kind, ["N", *s]) for n, s in self._taken.items()],
            [helper.make_tensor_value_info(n, kind, ["N", w]) for n, w in outputs.items()],
            self._tensors,
        )
        model = helper.make_model(
            graph,
            opset_imports=[helper.make_opsetid("", OPSET)],
            ir_version=IR_VERSION,
            producer_name="vidembed",
        )
        onnx.checker.check_model(model, full_check=True)
        content: bytes = model.SerializeToString(deterministic=True)
        return content

"""Convert an exported program to ONNX, for services that run neither JAX nor StableHLO.

Uses jax2onnx (the extra `onnx`). It gets the jaxpr, because when it traces a function itself it
replaces Flax layers with its own, which take fewer arguments.
"""

import contextlib
import importlib.util
import logging
import warnings
from collections.abc import Callable, Iterator, Mapping
from importlib import metadata
from typing import Any

import jax
import jax.extend
import jax.numpy as jnp
import numpy as np
from jax import export as jax_export

from vidembed.media.onnx import Session

PACKAGES = ("jax2onnx", "onnxruntime")
OPSET = 18
"""The oldest opset that supports jax2onnx's operations; runtimes have read it since 2023."""
VECTORS = "vectors"
_LOGGERS = ("jax2onnx", "onnx_ir")


def check_installed() -> None:
    """Raise ImportError with the install command unless the extra is installed."""
    for package in PACKAGES:
        if importlib.util.find_spec(package) is None:
            raise ImportError(
                f"an export to ONNX needs {package}, which is not installed: "
                "pip install -e '.[onnx]'"
            )


def to_onnx(
    program: Callable[[Mapping[str, jax.Array], Mapping[str, jax.Array]], jax.Array],
    widths: Mapping[str, int],
) -> bytes:
    """An ONNX model with its weights inside, for any number of videos.

    program: (features f32[N, F], present bool[N], by modality) → f32[N, D]. Inputs and output as in
    `described`. Raises ValueError for a program that jax2onnx cannot convert.
    """
    import jax2onnx

    (videos,) = jax_export.symbolic_shape("videos")
    features = {m: jax.ShapeDtypeStruct((videos, w), jnp.float32) for m, w in widths.items()}
    present = {m: jax.ShapeDtypeStruct((videos,), jnp.bool_) for m in widths}

    def flat(*arrays: jax.Array) -> jax.Array:
        rest = iter(arrays)
        return program({m: next(rest) for m in widths}, {m: next(rest) for m in widths})

    shapes = [*features.values(), *present.values()]
    convertible = jax.extend.core.jaxpr_as_fun(jax.make_jaxpr(flat)(*shapes))
    try:
        with _quietly():
            model = jax2onnx.to_onnx(
                convertible,
                shapes,
                model_name="vidembed",
                opset=OPSET,
                input_names=list(_inputs(widths)),
                output_names=[VECTORS],
            )
        content: bytes = model.SerializeToString()
        Session(content, name="the converted program")
    except Exception as error:  # Both packages raise many types, some of their own.
        raise ValueError(
            f"this network could not be converted to ONNX: {type(error).__name__}: {error}. Only "
            "those that compute in float32 can (not layers.compute='bfloat16'); export without "
            "--onnx"
        ) from error
    return content


def run_onnx(
    content: bytes, features: Mapping[str, np.ndarray], present: Mapping[str, np.ndarray]
) -> np.ndarray:
    """f32[N, D] from features f32[N, F] and present bool[N] by modality, by onnxruntime."""
    arrays = [*features.values(), *(present[m] for m in features)]
    inputs = dict(zip(_inputs(features), arrays))
    return Session(content, name="the converted program").run(VECTORS, inputs)


def described(widths: Mapping[str, int], size: int) -> dict[str, Any]:
    """The entry for the model in model.json."""
    shapes = [["videos", width] for width in widths.values()] + [["videos"]] * len(widths)
    dtypes = ["float32"] * len(widths) + ["bool"] * len(widths)
    return {
        "opset": OPSET,
        "inputs": {
            name: {"dtype": dtype, "shape": shape}
            for name, dtype, shape in zip(_inputs(widths), dtypes, shapes)
        },
        "outputs": {VECTORS: {"dtype": "float32", "shape": ["videos", size]}},
        "made_by": {package: metadata.version(package) for package in PACKAGES},
    }


def _inputs(widths: Mapping[str, Any]) -> Iterator[str]:
    for prefix in ("features", "present"):
        yield from (f"{prefix}_{modality}" for modality in widths)


@contextlib.contextmanager
def _quietly() -> Iterator[None]:
    """Silence jax2onnx about plugins for other libraries that do not load, and onnx_ir about
    shapes that it omits."""
    levels = {name: logging.getLogger(name).level for name in _LOGGERS}
    for name in levels:
        logging.getLogger(name).setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for name, level in levels.items():
            logging.getLogger(name).setLevel(level)

"""Read and write named arrays as safetensors: a length, a JSON header, then the raw numbers.

https://github.com/huggingface/safetensors; all its readers read these files. Implemented here so
that an export needs no further package.
"""

import json
import struct
from collections.abc import Mapping

import ml_dtypes
import numpy as np

NAMES = {
    "F32": np.dtype(np.float32),
    "BF16": np.dtype(ml_dtypes.bfloat16),
    "F16": np.dtype(np.float16),
    "I32": np.dtype(np.int32),
    "I64": np.dtype(np.int64),
    "U8": np.dtype(np.uint8),
    "BOOL": np.dtype(np.bool_),
}
ALIGNED = 8


def to_bytes(arrays: Mapping[str, np.ndarray], about: Mapping[str, str]) -> bytes:
    """The arrays as a file; `about` is its metadata. Raises ValueError for an unsupported dtype."""
    dtype_names = {dtype: name for name, dtype in NAMES.items()}
    header: dict[str, object] = {"__metadata__": dict(about)}
    at, contents = 0, []
    for name, array in sorted(arrays.items()):
        if array.dtype not in dtype_names:
            raise ValueError(f"{name}: {array.dtype} is not one of {', '.join(NAMES)}")
        contents.append(np.ascontiguousarray(array).tobytes())
        place = [at, at + len(contents[-1])]
        header[name] = {
            "dtype": dtype_names[array.dtype],
            "shape": list(array.shape),
            "data_offsets": place,
        }
        at = place[1]
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % ALIGNED)
    return struct.pack("<Q", len(text)) + text + b"".join(contents)


def from_bytes(content: bytes) -> dict[str, np.ndarray]:
    """The arrays in a file. Raises ValueError if it is truncated or not in this format."""
    try:
        (length,) = struct.unpack_from("<Q", content)
        header = json.loads(content[8 : 8 + length])
        header.pop("__metadata__", None)
        arrays = {}
        for name, entry in header.items():
            start, stop = (8 + length + offset for offset in entry["data_offsets"])
            flat = np.frombuffer(content[start:stop], NAMES[entry["dtype"]])
            arrays[name] = flat.reshape(entry["shape"])
    except (struct.error, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"not a safetensors file, or a truncated one: {error!r}") from error
    return arrays

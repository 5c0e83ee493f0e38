"""`tf.train.Example` and `SequenceExample` messages, read and written without TensorFlow.

Parsed as protobuf has it: a message that comes in parts is merged, unknown fields are passed over;
but of two values for one key, or two kinds in one feature, protobuf would silently keep the last:
they are refused.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from vidembed.records.wire import (
    BYTES,
    FIXED32,
    VARINT,
    MessageError,
    encode_bytes,
    encode_varint,
    fields,
    varint,
)

Spans = list[tuple[int, int]]  # the parts of a message: where they begin and end in its data
KINDS = {1: "bytes_list", 2: "float_list", 3: "int64_list"}


class Feature(NamedTuple):
    """One feature: its kind ("" when none is set), and list[bytes], f32[n] or i64[n]."""

    kind: str
    values: Any

    def __str__(self) -> str:
        return f"{self.kind} of {len(self.values)}" if self.kind else "an empty feature"


NOTHING = Feature("", ())


def parse_example(data: bytes) -> dict[str, Feature]:
    """The features of an Example, by key. Raises MessageError."""
    return {key: _feature(data, spans) for key, spans in _map(data, _spans(data, 1)).items()}


def parse_sequence_example(data: bytes) -> tuple[dict[str, Feature], dict[str, Spans]]:
    """Context features, and where the feature lists lie, by key. Raises MessageError."""
    context = {key: _feature(data, spans) for key, spans in _map(data, _spans(data, 1)).items()}
    return context, _map(data, _spans(data, 2))


def parse_steps(data: bytes, feature_list: Spans) -> list[Feature]:
    """The feature of each step of one list of a SequenceExample. Raises MessageError."""
    return [_feature(data, [step]) for span in feature_list for step in _spans(data, 1, *span)]


def encode_example(features: Mapping[str, Any]) -> bytes:
    """An Example of `features`: bytes (or a sequence of them), floats or integers by key."""
    return encode_bytes(1, _encode_map({k: encode_feature(v) for k, v in features.items()}))


def encode_sequence_example(
    context: Mapping[str, Any], lists: Mapping[str, Sequence[Any]]
) -> bytes:
    """A SequenceExample: context as in `encode_example`, and for each list one value a step."""
    steps = {
        key: b"".join(encode_bytes(1, encode_feature(value)) for value in values)
        for key, values in lists.items()
    }
    encoded = _encode_map({k: encode_feature(v) for k, v in context.items()})
    return encode_bytes(1, encoded) + encode_bytes(2, _encode_map(steps))


def encode_feature(values: Any) -> bytes:
    """A Feature message; its kind follows the type of the values, where integers stay integers."""
    if isinstance(values, bytes):
        values = [values]
    if len(values) and isinstance(values[0], bytes):
        return encode_bytes(1, b"".join(encode_bytes(1, value) for value in values))
    array = np.asarray(values)
    if array.dtype.kind == "f":
        return encode_bytes(2, encode_bytes(1, array.astype("<f4").tobytes()))
    packed = b"".join(encode_varint(value) for value in array.astype(np.int64).tolist())
    return encode_bytes(3, encode_bytes(1, packed))


def _encode_map(entries: Mapping[str, bytes]) -> bytes:
    return b"".join(
        encode_bytes(1, encode_bytes(1, key.encode()) + encode_bytes(2, value))
        for key, value in entries.items()
    )


def _spans(data: bytes, wanted: int, start: int = 0, stop: int | None = None) -> Spans:
    """Where field `wanted` of a message lies, each time that it occurs."""
    every = fields(data, start, len(data) if stop is None else stop)
    return [(a, b) for number, wire, a, b in every if number == wanted and wire == BYTES]


def _map(data: bytes, messages: Spans) -> dict[str, Spans]:
    """A map<string, message>: by key the spans of its value."""
    entries: dict[str, Spans] = {}
    for message in messages:
        for start, stop in _spans(data, 1, *message):
            key, value = b"", []
            for number, wire, a, b in fields(data, start, stop):
                if number == 1 and wire == BYTES:
                    key = data[a:b]
                elif number == 2 and wire == BYTES:
                    value.append((a, b))
            try:
                name = key.decode()
            except UnicodeDecodeError:
                raise MessageError(f"malformed message: key {key!r} is not UTF-8") from None
            if name in entries:
                raise MessageError(f"malformed message: key {name!r} occurs twice")
            entries[name] = value
    return entries


def _feature(data: bytes, messages: Spans) -> Feature:
    """The Feature whose parts these spans are."""
    kind = 0
    lists: Spans = []
    for start, stop in messages:
        for number, wire, a, b in fields(data, start, stop):
            if number in KINDS and wire == BYTES:
                if kind not in (0, number):
                    raise MessageError(f"malformed message: two kinds of feature at byte {a}")
                kind = number
                lists.append((a, b))
    if not kind:
        return NOTHING
    read = (_bytes, _floats, _integers)[kind - 1]
    return Feature(KINDS[kind], read(data, lists))


def _bytes(data: bytes, lists: Spans) -> list[bytes]:
    return [data[a:b] for span in lists for a, b in _spans(data, 1, *span)]


def _floats(data: bytes, lists: Spans) -> np.ndarray:
    parts = []
    for span in lists:
        for number, wire, a, b in fields(data, *span):
            if number == 1 and wire in (BYTES, FIXED32):
                if (b - a) % 4:
                    raise MessageError(f"malformed message: {b - a} bytes of floats at byte {a}")
                parts.append(data[a:b])
    return np.frombuffer(parts[0] if len(parts) == 1 else b"".join(parts), "<f4")


def _integers(data: bytes, lists: Spans) -> np.ndarray:
    values = []
    for span in lists:
        for number, wire, a, b in fields(data, *span):
            if number == 1 and wire in (BYTES, VARINT):
                while a < b:
                    value, a = varint(data, a, b)
                    values.append(value - (1 << 64) if value >> 63 else value)
    return np.array(values, np.int64)

"""Parse and encode `tf.train.Example` and `SequenceExample` without TensorFlow.

The messages are declared here for protobuf, with maps as repeated entries (their wire format) and
without the oneof. With the original declarations protobuf would silently keep the last of two
values for one key or of two kinds in one feature; here they are refused.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from google.protobuf.descriptor_pb2 import FieldDescriptorProto, FileDescriptorProto
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message import DecodeError
from google.protobuf.message_factory import GetMessageClass
from google.protobuf.unknown_fields import UnknownFieldSet

DECLARED: dict[str, dict[str, str]] = {
    "BytesList": {"value": "bytes*"},
    "FloatList": {"value": "float*"},
    "Int64List": {"value": "int64*"},
    "Feature": {"bytes_list": "BytesList", "float_list": "FloatList", "int64_list": "Int64List"},
    "FeatureEntry": {"key": "string", "value": "Feature"},
    "Features": {"feature": "FeatureEntry*"},
    "Example": {"features": "Features"},
    "FeatureList": {"feature": "Feature*"},
    "FeatureListEntry": {"key": "string", "value": "FeatureList"},
    "FeatureLists": {"feature_list": "FeatureListEntry*"},
    "SequenceExample": {"context": "Features", "feature_lists": "FeatureLists"},
}
"""Message → field → type (a star means repeated); fields are numbered in this order."""


class MessageError(ValueError):
    """Bytes that are not a message of the expected kind, or a message without expected content."""


class Feature(NamedTuple):
    """One feature: its kind ("" if unset), and its values: list[bytes], f32[n] or i64[n]."""

    kind: str
    values: Any

    def __str__(self) -> str:
        return f"{self.kind} of {len(self.values)}" if self.kind else "an empty feature"


NOTHING = Feature("", ())


def parse_example(data: bytes) -> dict[str, Feature]:
    """The features of an Example, by key. Raises MessageError."""
    return _by_key(_parsed("Example", data).features.feature, _feature)


def parse_features(data: bytes) -> dict[str, Feature]:
    """The features of a Features message (Example or context), by key. Raises MessageError."""
    return _by_key(_parsed("Features", data).feature, _feature)


def parse_sequence_example(data: bytes) -> tuple[dict[str, Feature], dict[str, list[Feature]]]:
    """Context features by key, and for each list the feature of each step. Raises MessageError."""
    message = _parsed("SequenceExample", data)
    lists = _by_key(message.feature_lists.feature_list, _features)
    return _by_key(message.context.feature, _feature), lists


def encode_example(features: Mapping[str, Any]) -> bytes:
    """Encode an Example; `features` maps keys to bytes (one or several), floats or integers."""
    return encode_bytes(1, _encode_map({k: encode_feature(v) for k, v in features.items()}))


def encode_sequence_example(
    context: Mapping[str, Any], lists: Mapping[str, Sequence[Any]]
) -> bytes:
    """Encode a SequenceExample: context as in `encode_example`, lists with one value per step."""
    steps = {
        key: b"".join(encode_bytes(1, encode_feature(value)) for value in values)
        for key, values in lists.items()
    }
    return encode_example(context) + encode_bytes(2, _encode_map(steps))


def encode_feature(values: Any) -> bytes:
    """Encode a Feature; its kind (bytes, float or int64) follows the type of the values."""
    if isinstance(values, bytes):
        values = [values]
    if len(values) and isinstance(values[0], bytes):
        return encode_bytes(1, b"".join(encode_bytes(1, value) for value in values))
    array = np.asarray(values)
    if array.dtype.kind == "f":
        return encode_bytes(2, encode_bytes(1, array.astype("<f4").tobytes()))
    packed = b"".join(encode_varint(value) for value in array.astype(np.int64).tolist())
    return encode_bytes(3, encode_bytes(1, packed))


def encode_bytes(number: int, value: bytes) -> bytes:
    """Encode field `number` of a message: bytes, a string or a nested message."""
    return encode_varint(number << 3 | 2) + encode_varint(len(value)) + value


def encode_varint(value: int) -> bytes:
    """Encode a 64-bit integer; negative values as two's complement."""
    value &= (1 << 64) - 1
    encoded = bytearray()
    while value > 0x7F:
        encoded.append(value & 0x7F | 0x80)
        value >>= 7
    encoded.append(value)
    return bytes(encoded)


def _encode_map(entries: Mapping[str, bytes]) -> bytes:
    return b"".join(
        encode_bytes(1, encode_bytes(1, key.encode()) + encode_bytes(2, value))
        for key, value in entries.items()
    )


def _declare() -> dict[str, Any]:
    """Create the message classes, by name."""
    package, field = "vidembed", FieldDescriptorProto
    file = FileDescriptorProto(name="example.proto", package=package, syntax="proto3")
    for name, members in DECLARED.items():
        message = file.message_type.add(name=name)
        for number, (member, kind) in enumerate(members.items(), 1):
            base = kind.rstrip("*")
            label = field.LABEL_OPTIONAL if base == kind else field.LABEL_REPEATED
            declared = message.field.add(name=member, number=number, label=label)
            if base in DECLARED:
                declared.type_name = f".{package}.{base}"
            else:
                declared.type = getattr(field, f"TYPE_{base.upper()}")
    pool = DescriptorPool()
    pool.Add(file)
    return {
        name: GetMessageClass(pool.FindMessageTypeByName(f"{package}.{name}")) for name in DECLARED
    }


_MESSAGES = _declare()


def _parsed(kind: str, data: bytes) -> Any:
    try:
        return _MESSAGES[kind].FromString(data)
    except DecodeError as error:
        raise MessageError(
            f"malformed message: its {len(data)} bytes are not a valid {kind}"
        ) from error


def _by_key(entries: Iterable[Any], read: Callable[[Any, str], Any]) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for entry in entries:
        if len(UnknownFieldSet(entry)):
            # protobuf would drop the whole entry.
            raise MessageError(f"malformed message: beside {entry.key!r} stand unknown fields")
        if entry.key in values:
            raise MessageError(f"malformed message: key {entry.key!r} occurs twice")
        values[entry.key] = read(entry.value, entry.key)
    return values


def _features(message: Any, key: str) -> list[Feature]:
    return [_feature(step, key) for step in message.feature]


def _feature(message: Any, key: str) -> Feature:
    kinds = message.ListFields()
    if not kinds:
        return NOTHING
    if len(kinds) > 1:
        raise MessageError(f"malformed message: {key!r} has two kinds of feature")
    [(field, values)] = kinds
    kind = field.name
    if kind == "bytes_list":
        return Feature(kind, list(values.value))
    return Feature(kind, np.array(values.value, "<f4" if kind == "float_list" else np.int64))

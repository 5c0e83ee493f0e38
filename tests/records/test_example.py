import numpy as np
import pytest
from google.protobuf.internal import encoder
from google.protobuf.message import DecodeError
from hypothesis import given, settings
from hypothesis import strategies as st
from tensorflow_datasets.proto import tf_example_pb2 as pb
from tensorflow_datasets.proto import tf_feature_pb2 as part

from vidembed.records.example import (
    NOTHING,
    MessageError,
    encode_bytes,
    encode_example,
    encode_feature,
    encode_sequence_example,
    encode_varint,
    parse_example,
    parse_sequence_example,
)

int64s = st.integers(-(2**63), 2**63 - 1)
float32s = st.floats(width=32)
values = st.one_of(
    st.builds(lambda v: part.Feature(bytes_list=part.BytesList(value=v)), st.lists(st.binary())),
    st.builds(lambda v: part.Feature(float_list=part.FloatList(value=v)), st.lists(float32s)),
    st.builds(lambda v: part.Feature(int64_list=part.Int64List(value=v)), st.lists(int64s)),
    st.just(part.Feature()),
)
features = st.dictionaries(st.text(max_size=3), values, max_size=4)
examples = st.builds(lambda f: pb.Example(features=part.Features(feature=f)), features)
few = settings(max_examples=60, derandomize=True, deadline=None, database=None)


def same(ours, theirs: part.Feature) -> bool:
    kind = theirs.WhichOneof("kind") or ""
    value = getattr(theirs, kind).value if kind else ()
    if kind == "float_list":
        return ours.kind == kind and ours.values.tobytes() == np.array(value, "<f4").tobytes()
    return ours.kind == kind and list(ours.values) == list(value)


def agree(data: bytes, message: pb.Example) -> bool:
    ours, theirs = parse_example(data), message.features.feature
    return ours.keys() == theirs.keys() and all(same(ours[key], theirs[key]) for key in ours)


@few
@given(examples)
def test_examples_are_read_as_protobuf_reads_them(message):
    assert agree(message.SerializeToString(), message)


@settings(max_examples=300, derandomize=True, deadline=None, database=None)
@given(examples, st.data())
def test_damaged_examples_are_refused_or_read_as_protobuf_reads_them(message, data):
    damaged = bytearray(message.SerializeToString())
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(0, len(damaged)))
        damaged[at : at + data.draw(st.integers(0, 3))] = data.draw(st.binary(max_size=3))
    try:
        parse_example(bytes(damaged))
    except MessageError:
        return
    assert agree(bytes(damaged), pb.Example.FromString(bytes(damaged)))


@pytest.mark.fault(
    "Records: a damaged key, so that protobuf would drop the whole feature",
    "refused as malformed, like every damaged record",
)
@pytest.mark.parametrize("field", [b"\x08\x00", b"\x18\x01", b"\x1a\x01x"])
def test_a_feature_beside_unknown_fields_is_refused(field):
    known = encode_bytes(1, b"key") + encode_bytes(2, encode_feature([1]))
    for entry in (known + field, field + known):
        data = encode_bytes(1, encode_bytes(1, entry))
        assert not pb.Example.FromString(data).features.feature
        with pytest.raises(MessageError, match="malformed message: beside 'key' stand unknown"):
            parse_example(data)


@few
@given(features, st.dictionaries(st.text(max_size=3), st.lists(values, max_size=3), max_size=3))
def test_sequence_examples_are_read_as_protobuf_reads_them(context, lists):
    lists = {key: part.FeatureList(feature=steps) for key, steps in lists.items()}
    message = pb.SequenceExample(
        context=part.Features(feature=context), feature_lists=part.FeatureLists(feature_list=lists)
    )
    data = message.SerializeToString()
    ours, our_lists = parse_sequence_example(data)
    assert ours.keys() == context.keys()
    assert all(same(ours[key], context[key]) for key in ours)
    assert our_lists.keys() == lists.keys()
    for key, theirs in lists.items():
        assert len(our_lists[key]) == len(theirs.feature)
        assert all(same(*pair) for pair in zip(our_lists[key], theirs.feature))


@pytest.mark.parametrize("number", [0, 127, 128, 300, 2**14, 2**31, 2**63, 2**64 - 1])
def test_varints_are_protobufs(number):
    assert encode_varint(number) == encoder._VarintBytes(number)
    assert encode_varint(number - 2**64) == encode_varint(number)


def test_protobuf_reads_what_is_encoded():
    data = encode_example(
        {"id": b"abc", "two": [b"a", b""], "n": [3, -1, 2**40], "x": np.float32([1.5]), "no": []}
    )
    features = pb.Example.FromString(data).features.feature
    assert list(features["id"].bytes_list.value) == [b"abc"]
    assert list(features["two"].bytes_list.value) == [b"a", b""]
    assert list(features["n"].int64_list.value) == [3, -1, 2**40]
    assert list(features["x"].float_list.value) == [1.5]
    assert features["no"].WhichOneof("kind") == "float_list"
    sequence = encode_sequence_example({"id": b"abc"}, {"rgb": [b"12", b"34"], "none": []})
    message = pb.SequenceExample.FromString(sequence)
    assert message.context.feature["id"].bytes_list.value == [b"abc"]
    steps = message.feature_lists.feature_list["rgb"].feature
    assert [step.bytes_list.value for step in steps] == [[b"12"], [b"34"]]
    assert not message.feature_lists.feature_list["none"].feature


def entry(key: bytes, *parts: bytes) -> bytes:
    return encode_bytes(1, encode_bytes(1, key) + b"".join(encode_bytes(2, p) for p in parts))


def test_lists_that_are_not_packed_and_messages_in_parts():
    short, long = b"\x1a\x02\x08\x05", b"\x1a\x03\x08\xac\x02"  # int64_list with 5, with 300
    floats = b"\x12\x0a\x0d\0\0\x80\x3f\x0d\0\0\0\x40"  # float_list with 1.0 and 2.0
    data = encode_bytes(1, entry(b"n", short, long)) + encode_bytes(1, entry(b"x", floats))
    data += b"\x12\0\x98\x06\x01"  # fields 2 and 99, unknown here
    assert agree(data, pb.Example.FromString(data))
    assert parse_example(data)["n"].values.tolist() == [5, 300]
    assert parse_example(data)["x"].values.tolist() == [1.0, 2.0]
    assert parse_example(encode_bytes(1, entry(b"e")))["e"] == NOTHING


@pytest.mark.parametrize(
    ("body", "fault"),
    [
        (entry(b"k") + entry(b"k"), "key 'k' occurs twice"),
        (entry(b"k", encode_feature([1]) + encode_feature([1.0])), "'k' has two kinds of feature"),
    ],
)
def test_ambiguous_messages_are_refused(body, fault):
    with pytest.raises(MessageError, match=fault):
        parse_example(encode_bytes(1, body))


@pytest.mark.parametrize(
    "body",
    [
        entry(b"\xff"),  # a key that is not UTF-8
        entry(b"k", b"\x12\x04\x0a\x02ab"),  # two bytes of floats
        entry(b"k", b"\x1a\x03\x0a\x01\x80"),  # an integer without an end
        b"\x02\x00",  # field number 0
        b"\x0f",  # wire type 7
    ],
)
def test_malformed_messages_are_refused(body):
    with pytest.raises(
        MessageError, match=r"malformed message: its \d+ bytes are not a valid Example"
    ):
        parse_example(encode_bytes(1, body))


def test_truncated_messages_are_refused_as_protobuf_refuses_them():
    data = encode_example({"id": b"abc", "n": [1, 2]})
    for cut in range(1, len(data)):
        with pytest.raises(DecodeError):
            pb.Example.FromString(data[:cut])
        with pytest.raises(MessageError):
            parse_example(data[:cut])

import pytest
from google.protobuf.internal import decoder, encoder

from vidembed.records.wire import (
    BYTES,
    FIXED32,
    FIXED64,
    VARINT,
    MessageError,
    encode_bytes,
    encode_varint,
    fields,
    varint,
)

NUMBERS = [0, 1, 127, 128, 300, 2**14 - 1, 2**14, 2**31, 2**32, 2**63, 2**64 - 1]


def everything(data: bytes) -> list:
    return list(fields(data, 0, len(data)))


def test_varints_are_protobufs():
    assert encode_varint(300) == b"\xac\x02"
    for number in NUMBERS:
        encoded = encode_varint(number)
        assert encoded == encoder._VarintBytes(number)
        assert varint(b"?" + encoded + b"?", 1, 99) == (number, 1 + len(encoded))
        assert decoder._DecodeVarint(encoded, 0) == (number, len(encoded))
    assert encode_varint(-1) == b"\xff" * 9 + b"\x01"


@pytest.mark.parametrize(
    ("data", "fault"),
    [
        (b"", "an integer runs past byte 0"),
        (b"\x80", "an integer runs past byte 1"),
        (b"\xff" * 9, "an integer runs past byte 9"),
        (b"\xff" * 9 + b"\x02", "before byte 10 exceeds 64 bits"),
        (b"\xff" * 10 + b"\x01", "before byte 10 exceeds 64 bits"),
    ],
)
def test_malformed_varints_are_refused(data, fault):
    with pytest.raises(MessageError, match=fault):
        varint(data, 0, len(data))


def test_fields_are_walked_by_number_type_and_span():
    long = encode_bytes(200, b"x" * 300)
    data = b"\x08\x96\x01" + b"\x12\x02hi" + b"\x1d\0\0\x80\x3f" + b"\x21" + b"\0" * 8 + long
    assert everything(data) == [
        (1, VARINT, 1, 3),
        (2, BYTES, 5, 7),
        (3, FIXED32, 8, 12),
        (4, FIXED64, 13, 21),
        (200, BYTES, 25, 325),
    ]
    assert list(fields(data, 3, 7)) == [(2, BYTES, 5, 7)]


@pytest.mark.parametrize(
    ("data", "fault"),
    [
        (b"\x12\x05hi", "field 2 at byte 2 runs 3 bytes past"),
        (b"\x12", "an integer runs past byte 1"),
        (b"\x08", "an integer runs past byte 1"),
        (b"\x1d\0\0", "field 3 at byte 1 runs 2 bytes past"),
        (b"\x21\0", "field 4 at byte 1 runs 7 bytes past"),
        (b"\x0b\x0c", "wire type 3 before byte 1"),
        (b"\x0f", "wire type 7"),
        (b"\x02\x00", "field number 0"),
        (encode_bytes(1 << 29, b""), "field number 536870912"),
        (b"\x12" + encode_varint(2**63) + b"hi", "runs 9223372036854775806 bytes past"),
    ],
)
def test_malformed_fields_are_refused(data, fault):
    with pytest.raises(MessageError, match=fault):
        everything(data)


def test_a_field_never_reaches_beyond_the_message_it_is_in():
    data = b"\x12\x04four"
    assert everything(data) == [(2, BYTES, 2, 6)]
    with pytest.raises(MessageError, match="runs 1 bytes past"):
        list(fields(data, 0, 5))

"""The protobuf wire format, as far as `tf.train` messages need it: a small strict reader.

What no writer of these messages makes (groups, overlong varints, field 0) is refused.
"""

from collections.abc import Iterator

VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5


class MessageError(ValueError):
    """Bytes that are no message of the expected kind, or one without what is asked of it."""


def varint(data: bytes, position: int, stop: int) -> tuple[int, int]:
    """The unsigned integer at `position`, and where it ends; at most 64 bits in 10 bytes."""
    value = 0
    for shift in range(0, 70, 7):
        if position >= stop:
            raise MessageError(f"malformed message: an integer runs past byte {stop}, its end")
        byte = data[position]
        position += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80 and not value >> 64:
            return value, position
        if byte < 0x80:
            break
    raise MessageError(f"malformed message: the integer before byte {position} exceeds 64 bits")


def fields(data: bytes, start: int, stop: int) -> Iterator[tuple[int, int, int, int]]:
    """Each field of the message data[start:stop]: number, wire type, and the span of its value."""
    position = start
    while position < stop:
        tag = data[position]
        if tag < 0x80:
            position += 1
        else:
            tag, position = varint(data, position, stop)
        number, wire = tag >> 3, tag & 7
        begin = position
        if wire == BYTES:
            length = data[position] if position < stop else 0x80
            if length < 0x80:
                begin = position + 1
            else:
                length, begin = varint(data, position, stop)
            position = begin + length
        elif wire == VARINT:
            _, position = varint(data, position, stop)
        elif wire == FIXED32:
            position += 4
        elif wire == FIXED64:
            position += 8
        else:
            raise MessageError(f"malformed message: wire type {wire} before byte {position}")
        if not 0 < number < 1 << 29:
            raise MessageError(f"malformed message: field number {number} before byte {begin}")
        if position > stop:
            raise MessageError(
                f"malformed message: field {number} at byte {begin} runs {position - stop} bytes"
                " past its message"
            )
        yield number, wire, begin, position


def encode_varint(value: int) -> bytes:
    """An integer of 64 bits; a negative one as its two's complement."""
    value &= (1 << 64) - 1
    encoded = bytearray()
    while value > 0x7F:
        encoded.append(value & 0x7F | 0x80)
        value >>= 7
    encoded.append(value)
    return bytes(encoded)


def encode_bytes(number: int, value: bytes) -> bytes:
    """A field that holds bytes, a string or a message."""
    return encode_varint(number << 3 | BYTES) + encode_varint(len(value)) + value

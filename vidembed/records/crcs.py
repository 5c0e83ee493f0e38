"""The crcs around each record, and how to distinguish a record from a gzip header."""

import struct
from typing import Any

import google_crc32c

HEADER = struct.Struct("<QI")
FOOTER = struct.Struct("<I")
_GZIP_MAGIC = b"\x1f\x8b\x08"

crc32c = google_crc32c.value


def mask(crc: Any) -> Any:
    """TFRecord's masked (rotated and offset) form of a crc32c: int or u32[n]."""
    return ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF


def length_is_sound(length: int, stored: int) -> bool:
    """Whether a record's length agrees with its crc."""
    return bool(mask(crc32c(struct.pack("<Q", length))) == stored)


def is_gzip(head: bytes) -> bool:
    """Whether a file that begins with these (at least 12) bytes is gzip.

    A plain record of 559,903 bytes also begins like gzip, but its length agrees with its crc.
    """
    if not head.startswith(_GZIP_MAGIC):
        return False
    return len(head) < HEADER.size or not length_is_sound(*HEADER.unpack_from(head))

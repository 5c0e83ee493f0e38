"""Detect the kind of a file from its first bytes, never from its name."""

import re
import zlib
from os import PathLike

import pyarrow as pa
from etils import epath

from vidembed.records.crcs import HEADER, is_gzip, length_is_sound
from vidembed.records.example import (
    MessageError,
    encode_bytes,
    parse_example,
    parse_sequence_example,
)
from vidembed.records.remote import read_range

EMPTY, RECORDS, GZIP_RECORDS = "empty", "TFRecord", "gzip-compressed TFRecord"
GZIP, PARQUET, NUMPY, TEXT = "gzip-compressed", "Parquet", "a numpy file", "text"
NPZ = "a zip archive (numpy's .npz is one)"
UNKNOWN = "of no known kind"
FRAME_LEVEL = "frame-level records (tf.train.SequenceExample)"
READ = (RECORDS, GZIP_RECORDS)
"""Kinds that are read as records."""

_HEAD_BYTES = 4096
_SMALL_BYTES = 64 << 20  # files up to this size are read whole if their first bytes say nothing
_MAGICS = {
    b"PAR1": PARQUET,
    b"\x93NUMPY": NUMPY,
    b"ARROW1": "an Arrow file",
    b"\x89HDF\r\n\x1a\n": "HDF5",
    b"PK\x03\x04": NPZ,
    b"SQLite format 3\0": "an SQLite database",
    b"\x28\xb5\x2f\xfd": "zstd-compressed",
    b"\x04\x22\x4d\x18": "lz4-compressed",
    b"BZh": "bzip2-compressed",
    b"\xfd7zXZ\0": "xz-compressed",
    b"\xff\x06\0\0sNaPpY": "snappy-compressed",
    b"\xff\xfe": "text in UTF-16",
    b"\x80\x02": "a pickle",
    b"\x80\x03": "a pickle",
    b"\x80\x04": "a pickle",
    b"\x80\x05": "a pickle",
    b"version https://git-lfs": "a Git LFS pointer: fetch the file itself with git lfs pull",
}
_WEB_PAGE = re.compile(rb"\s*<(!doctype|html|\?xml|error)", re.IGNORECASE)
_CONTROL = re.compile(rb"[\0-\x08\x0e-\x1a\x1c-\x1f]")


def kind_of(name: str | PathLike[str]) -> str:
    """The kind of one file, such as "Parquet", "zlib-compressed TFRecord", "text" or "empty".

    The kind of a compressed file includes that of its content if known. Raises OSError if the file
    cannot be read.
    """
    path = epath.Path(name)
    head = read_range(path, 0, _HEAD_BYTES)
    kind = _kind_of_bytes(head)
    if kind != UNKNOWN or path.stat().length > _SMALL_BYTES:
        return kind
    return _kind_of_whole(read_range(path, 0, _SMALL_BYTES))


def remedy(kind: str) -> str:
    """What to do with a file that is not a TFRecord file."""
    if "compressed" in kind:
        return "decompress it, or rewrite it uncompressed or with gzip"
    if kind in (PARQUET, NUMPY, NPZ):
        return "import reads it if all given files are of that kind"
    return "give TFRecord files, a Parquet file, .npz files or .npy files with --ids"


def record_kind(payload: bytes) -> str:
    """The kind of protobuf message in a record's payload, for an error message."""
    try:
        lists = parse_sequence_example(payload)[1]
        if lists:
            return f"{FRAME_LEVEL} with the lists {', '.join(sorted(lists))}"
        return "tf.train.Example" if parse_example(payload) else "an empty message"
    except MessageError:
        return "not a tf.train.Example"


def refuse_frame_level(payload: bytes) -> None:
    """Raise MessageError for a frame-level record where a video-level one is expected."""
    kind = record_kind(payload)
    if kind.startswith(FRAME_LEVEL):
        raise MessageError(
            f"expected a video-level record (tf.train.Example), but these are {kind}: `train "
            "annotation` reads them with --corpus.layout.level frame, and `annotate` as they are. "
            "For a table, average the frames of each video first "
            "(vidembed.records.frames.read_frames reads them, "
            "vidembed.records.writer.write_videos writes the result)"
        )


def _kind_of_bytes(head: bytes) -> str:
    """The kind by the first bytes of a file, at most `_HEAD_BYTES` of them."""
    if not head:
        return EMPTY
    if len(head) >= HEADER.size and length_is_sound(*HEADER.unpack_from(head)):
        return RECORDS
    if is_gzip(head):
        return _inside("gzip", head, zlib.MAX_WBITS | 16)
    for magic, kind in _MAGICS.items():
        if head.startswith(magic):
            return kind
    if head[0] & 0x0F == 8 and head[0] >> 4 <= 7 and int.from_bytes(head[:2]) % 31 == 0:
        inside = _inside("zlib", head, zlib.MAX_WBITS)
        if inside:
            return inside
    if _WEB_PAGE.match(head):
        return "a web page (HTML or XML), most likely from a failed download"
    if not _CONTROL.search(head) and _is_utf8(head):
        return TEXT
    return UNKNOWN


def _inside(compression: str, head: bytes, window_bits: int) -> str:
    """The kind with its content, such as "gzip-compressed TFRecord"; "" if zlib cannot read it."""
    try:
        plain = zlib.decompressobj(window_bits).decompress(head, _HEAD_BYTES)
    except zlib.error:
        # The record reader reports the damage of a gzip file.
        return GZIP_RECORDS if compression == "gzip" else ""
    kind = _kind_of_bytes(plain)
    if kind in (EMPTY, UNKNOWN):
        return f"{compression}-compressed"
    return f"{compression}-compressed {kind}"


def _kind_of_whole(data: bytes) -> str:
    """The kind by all bytes: neither snappy nor protobuf has a magic number."""
    for skip in (0, 4, 8):  # bare, after TensorFlow's one length, or after Hadoop's two
        size = int.from_bytes(data[skip - 4 : skip]) if skip else len(data)
        plain = _unsnapped(data[skip : skip + size])
        if plain:
            kind = _kind_of_bytes(plain[:_HEAD_BYTES])
            return f"snappy-compressed {kind}" if kind != UNKNOWN else "snappy-compressed"
    for message in (data, encode_bytes(1, data)):  # an Example, or the Features in it
        kind = record_kind(message)
        if kind.startswith((FRAME_LEVEL, "tf.train")):
            return f"one bare message, {kind}"
    return UNKNOWN


def _unsnapped(data: bytes) -> bytes:
    """The content of a Snappy block; empty if the bytes are not one."""
    size = shift = 0
    for octet in data[:5]:
        size |= (octet & 0x7F) << shift
        shift += 7
        if octet < 0x80:
            break
    if not 0 < size <= 25 * len(data):  # Snappy's best ratio is about 21
        return b""
    try:
        return bytes(pa.decompress(data, decompressed_size=size, codec="snappy", asbytes=True))
    except (pa.ArrowException, OSError):
        return b""


def _is_utf8(head: bytes) -> bool:
    try:
        head.decode()
    except UnicodeDecodeError as error:
        # The last character may be cut.
        return len(head) == _HEAD_BYTES and error.start >= len(head) - 3
    return True

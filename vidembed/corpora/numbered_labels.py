"""Read label files in the form of Sports-1M: lines of `URL LABEL,LABEL`, labels as numbers.

A line is "https://www.youtube.com/watch?v=ID 1,2,3" (Karpathy et al., CVPR 2014); there is no
header.
"""

import re

import numpy as np
from etils import epath

HEAD_BYTES = 1 << 10
_LINE = re.compile(rb"https?://[^\s?]+\?(?:\S*&)?v=([^\s&]+)\S*[ \t]+(\d+(?:,\d+)*)\s*")


def is_numbered(path: epath.Path) -> bool:
    """Whether the first line of a file has this form."""
    if not path.is_file():
        return False
    with path.open("rb") as file:
        first = file.read(HEAD_BYTES).partition(b"\n")[0]
    return _LINE.fullmatch(first) is not None


def read_numbered(path: epath.Path) -> tuple[np.ndarray, np.ndarray]:
    """(ids S[L], class numbers i64[L]), a pair for each label; the id is the URL's v.

    Raises ValueError with the first line of another form.
    """
    ids: list[bytes] = []
    values: list[int] = []
    for number, line in enumerate(path.read_bytes().splitlines(), 1):
        match = _LINE.fullmatch(line)
        if match is None:
            raise ValueError(
                f"{path}, line {number}: must be a URL with v=ID, a space and numbers joined by "
                f"commas, as in Sports-1M, found {line[:80].decode(errors='replace')!r}"
            )
        classes = match[2].split(b",")
        ids += [match[1]] * len(classes)
        values += map(int, classes)
    return np.array(ids, np.bytes_), np.array(values, np.int64)

"""Numbers of JEMC (ICMR 2018) on MSR-VTT and MSVD, quoted: on other data than is measured here.

R@1, R@5, R@10, median and mean rank, text to video and video to text; None where not known. ≈ marks
rows from memory; of the others, the full fusion on MSR-VTT is as Papers with Code lists it.
"""

from collections.abc import Sequence
from typing import NamedTuple

Five = Sequence[float | None]
_UNKNOWN: Five = (None,) * 5


class Quoted(NamedTuple):
    """A published row."""

    name: str
    text_to_video: Five
    video_to_text: Five = _UNKNOWN


TABLE_2 = (
    Quoted("VSE", (5.0, 16.4, 24.6, 47, None), (7.7, 20.3, 31.2, 28, None)),
    Quoted("VSE++", (5.7, 17.1, 24.8, 65, None), (10.2, 25.4, 35.1, 25, None)),
    Quoted("JEMC, object", (5.8, 17.6, 25.2, 61, None), (10.5, 26.7, 35.9, 25, None)),
    Quoted("JEMC, activity ≈", (4.6, 15.3, 22.7, 71, None)),
    Quoted("JEMC, object and activity ≈", (6.8, 20.7, 29.5, 39, None)),
    Quoted("JEMC, with audio", (7.0, 20.9, 29.7, 38, 213.8), (12.5, 32.1, 42.4, 16, 134.0)),
    Quoted("Dual Encoding (2019)", (7.6, None, None, None, None)),
)
"""MSR-VTT, full test: 2,990 videos with 20 captions each."""
TABLE_3 = (
    Quoted("VSE", (12.3, 30.1, 42.3, 14, None)),
    Quoted("VSE++", (15.4, 39.6, 53.0, 9, None)),
    Quoted("JEMC", (20.3, 47.8, 61.1, 6, None)),
    Quoted("JEMC ≈", _UNKNOWN, (31.5, 51.0, 61.5, 5, None)),
)
"""MSVD, which is silent: 670 videos with 21 to 81 captions each."""

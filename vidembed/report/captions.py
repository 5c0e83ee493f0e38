"""Captions of videos on the page: a title, a link, and a picture loaded by the reader's browser."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple
from urllib.parse import quote, urlsplit

ID = "{id}"
_PLAIN_HOST = frozenset("abcdefghijklmnopqrstuvwxyz0123456789.-:[]")


class Caption(NamedTuple):
    """Id, title, link and picture of a video; "" if unknown."""

    id: str
    title: str
    link: str
    picture: str


@dataclass(frozen=True, kw_only=True)
class Captions:
    """Titles by id, and URL templates in which `{id}` stands for the id of a video.

    Nothing is fetched: a browser loads the pictures when the page is read. Raises ValueError for a
    template without `{id}`, or with a scheme other than http and https.
    """

    titles: Mapping[str, str] = field(default_factory=dict)
    link: str = ""
    picture: str = ""

    def __post_init__(self) -> None:
        for option, template in (
            ("--url-template", self.link),
            ("--thumbnail-template", self.picture),
        ):
            if template:
                _check(option, template)

    def of(self, video: str) -> Caption:
        """The caption of a video, given its id as text."""
        quoted = quote(video, safe="")
        link, picture = (url.replace(ID, quoted) for url in (self.link, self.picture))
        return Caption(id=video, title=self.titles.get(video, ""), link=link, picture=picture)

    @property
    def picture_host(self) -> str:
        """The host that the page may load pictures from, such as https://i.ytimg.com, or ""."""
        if not self.picture:
            return ""
        parts = urlsplit(self.picture)
        return f"{parts.scheme}://{parts.netloc}"


def _check(option: str, template: str) -> None:
    parts = urlsplit(template)
    host = parts.netloc.lower()
    if parts.scheme not in ("http", "https") or not host or not _PLAIN_HOST.issuperset(host):
        raise ValueError(
            f"{option} {template!r} is not a web address: give one with https:// (or "
            f"http://) and a host, such as 'https://example.com/watch?v={ID}'"
        )
    if ID not in template:
        raise ValueError(
            f"{option} {template!r} is the same for every video: put {ID} in the place of "
            f"the video's id, such as 'https://example.com/watch?v={ID}'"
        )

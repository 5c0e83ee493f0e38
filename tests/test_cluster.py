import pytest

from vidembed.cluster import Cluster


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"coordinator": "host:1"}, "all three or none"),
        ({"coordinator": "host", "count": 2, "number": 0}, "must be HOST:PORT"),
        ({"coordinator": "host:1", "count": 2, "number": 2}, "number 2 must lie in"),
        ({"timeout_seconds": 0}, "timeout_seconds 0"),
    ],
)
def test_what_cannot_join_is_refused(options, words):
    with pytest.raises(ValueError, match=words):
        Cluster(**options)


def test_alone_nothing_is_joined():
    Cluster().connect()

"""Descriptions of fields, read from the source."""

import ast
import contextlib
import gc
from dataclasses import dataclass

import pytest
import tyro

from vidembed.cli import command_line, descriptions


@dataclass
class Options:
    """Some."""

    size: int = 3
    """How large
    it is."""
    bare: int = 4


class Parses:
    """Garbage that parses when it is collected, as a finaliser does that formats a traceback, and
    leaves more of its kind."""

    remaining = 0

    def __init__(self):
        self.itself = self

    def __del__(self):
        ast.parse("f(a, b + c)")
        if Parses.remaining:
            Parses.remaining -= 1
            Parses()


@contextlib.contextmanager
def garbage():
    """Nearly every allocation collects."""
    thresholds, Parses.remaining = gc.get_threshold(), 1_000
    gc.set_threshold(5, 1, 1)
    try:
        Parses()
        yield
    finally:
        gc.set_threshold(*thresholds)
        left, Parses.remaining = Parses.remaining, 0
    assert 0 < left < 1_000


def test_fields_have_the_texts_below_them_though_garbage_parses():
    descriptions.of_fields.cache_clear()
    with garbage():
        texts = descriptions.of_fields(Options)
    assert texts == {"size": "How large it is."}


def test_options_are_parsed_though_garbage_parses():
    tyro._unsafe_cache.clear_cache()
    with garbage():
        options = command_line.parse_one(Options, ["--size", "5"], prog="x")
    assert options == Options(size=5)


def test_collection_goes_on_as_before():
    for collects in (True, False):
        gc.enable() if collects else gc.disable()
        with pytest.raises(ValueError, match="in between"), descriptions.collection_paused():
            raise ValueError(f"in between: {gc.isenabled()}")
        assert gc.isenabled() == collects
    gc.enable()

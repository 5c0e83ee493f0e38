"""Descriptions of fields, read from the source."""

import ast
from dataclasses import dataclass

import pytest

from vidembed.cli import descriptions


@dataclass
class Options:
    """Some."""

    size: int = 3
    """How large
    it is."""
    bare: int = 4


@pytest.mark.parametrize("failures", [0, 2])
def test_fields_have_the_texts_below_them_even_if_parsing_fails_at_first(failures, monkeypatch):
    calls, parse = [], ast.parse

    def fails(source, *rest, **options):
        calls.append(source)
        if len(calls) <= failures:
            raise SystemError("AST constructor recursion depth mismatch (before=192, after=239)")
        return parse(source, *rest, **options)

    monkeypatch.setattr(ast, "parse", fails)
    descriptions.of_fields.cache_clear()
    assert descriptions.of_fields(Options) == {"size": "How large it is."}
    assert len(calls) > failures


def test_a_fault_that_stays_is_raised(monkeypatch):
    def fails(*rest, **options):
        raise SystemError("depth mismatch")

    monkeypatch.setattr(ast, "parse", fails)
    descriptions.of_fields.cache_clear()
    with pytest.raises(SystemError):
        descriptions.of_fields(Options)

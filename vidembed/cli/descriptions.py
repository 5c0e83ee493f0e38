"""Read the descriptions of dataclass fields and function parameters from the source."""

import ast
import contextlib
import functools
import gc
import inspect
import itertools
import re
import textwrap
from collections.abc import Callable, Iterator, Mapping
from typing import Any


@functools.cache
def of_fields(kind: type) -> Mapping[str, str]:
    """Field → the text below it in the source, on one line; inherited fields included.

    Fields without a text are left out, and so are classes made at run time.
    """
    texts: dict[str, str] = {}
    for base in reversed(kind.__mro__[:-1]):
        with contextlib.suppress(OSError, TypeError, SyntaxError):
            texts |= _below_fields(_tree(base))
    return texts


def _tree(kind: type) -> ast.AST:
    """The syntax tree of a class."""
    with collection_paused():
        [tree] = ast.parse(textwrap.dedent(inspect.getsource(kind))).body
    return tree


@contextlib.contextmanager
def collection_paused() -> Iterator[None]:
    """No garbage is collected inside, so that sources can be parsed.

    CPython before 3.11.8 counts the depth of recursion of all parsing together. A collection within
    `ast.parse` may run a finaliser that parses, as formatting a traceback does, or let another
    thread parse; the outer call then fails with a SystemError.
    """
    collects = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if collects:
            gc.enable()


def of_parameters(function: Callable[..., Any]) -> Mapping[str, str]:
    """Parameter → its text in the section `Args:` of the docstring, on one line."""
    section = (inspect.getdoc(function) or "").partition("\nArgs:\n")[2]
    entries = re.findall(r"^    (\w+): (.*(?:\n      .*)*)", section, re.MULTILINE)
    return {name: " ".join(text.split()) for name, text in entries}


def paragraphs(command: Any) -> list[str]:
    """The paragraphs of a docstring, each on one line, without the section `Args:`."""
    text = (inspect.getdoc(command) or "").partition("\nArgs:\n")[0]
    return [" ".join(part.split()) for part in text.split("\n\n") if part.strip()]


def summary(command: Any) -> str:
    """The first paragraph of a docstring, on one line."""
    return next(iter(paragraphs(command)), "")


def first_sentence(text: str) -> str:
    """The text up to the first full stop; semicolons and abbreviations do not end a sentence."""
    return re.split(r"(?<=[^.][^.\s][.?!])\s+(?=[A-Z`*\"])", text, maxsplit=1)[0]


def _below_fields(tree: ast.AST) -> dict[str, str]:
    body = getattr(tree, "body", [])
    return {
        field.target.id: " ".join(below.value.value.split())
        for field, below in itertools.pairwise(body)
        if isinstance(field, ast.AnnAssign)
        and isinstance(field.target, ast.Name)
        and isinstance(below, ast.Expr)
        and isinstance(below.value, ast.Constant)
        and isinstance(below.value.value, str)
    }

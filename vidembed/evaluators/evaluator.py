"""Default methods of evaluators."""

import dataclasses
import typing
from collections.abc import Mapping
from typing import Any

from vidembed import FieldRole
from vidembed.evaluators.slices import LabelKinds, Slices
from vidembed.metrics.intervals import Result, Selection


class Evaluator:
    """Defaults for the methods that the engine calls on an evaluator.

    An evaluator is a frozen dataclass that adds `check(corpus)`, which raises ValueError if there
    is nothing to measure, and `run(outputs, corpus, *, mesh)`, which returns a `Result`.
    """

    def identity(self) -> dict[str, Any]:
        """The class and the fields without a role, as JSON: they determine what is measured."""
        hints = typing.get_type_hints(type(self), include_extras=True)
        names = [
            name
            for name in (field.name for field in dataclasses.fields(self))  # type: ignore[arg-type]
            if not any(isinstance(m, FieldRole) for m in getattr(hints[name], "__metadata__", ()))
        ]
        return {"class": type(self).__name__} | {n: _plain(getattr(self, n)) for n in names}

    def baselines(self, corpus: Any, *, mesh: Any = None) -> Mapping[str, Result]:
        """System → its result; none by default."""
        del corpus, mesh
        return {}

    def selection(self, values: Mapping[str, float]) -> Selection:
        """The score that checkpoints are compared by: the first one."""
        name = next(iter(values))
        return Selection(name=name, value=values[name])

    def slices(self, embeddings: Any, corpus: Any, label_kinds: LabelKinds) -> Mapping[str, Slices]:
        """Task → results by kind of video, for embeddings f32[N, D]; none by default."""
        del embeddings, corpus, label_kinds
        return {}

    def counts(self, corpus: Any) -> Mapping[str, Mapping[str, int]]:
        """Task → the numbers of `queries` and of those `left_out`; none by default."""
        del corpus
        return {}


def _plain(value: Any) -> Any:
    """A dataclass as its class and fields; anything else unchanged."""
    if not dataclasses.is_dataclass(value):
        return value
    return {"class": type(value).__name__} | {n: _plain(v) for n, v in vars(value).items()}

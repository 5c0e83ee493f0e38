"""What an evaluator is where it does not say otherwise."""

import dataclasses
import typing
from collections.abc import Mapping
from typing import Any

from vidembed import FieldRole
from vidembed.evaluators.slices import LabelKinds, Slices
from vidembed.metrics.intervals import Result, Selection


class Evaluator:
    """Defaults of what the engine asks of an evaluator.

    An evaluator is a frozen dataclass that adds `check(corpus)`, which raises ValueError where
    there is nothing to measure, and `run(outputs, corpus, *, mesh)`, which gives a `Result`.
    """

    def identity(self) -> dict[str, Any]:
        """Its class and the fields without a role: what decides what is measured. JSON holds it."""
        hints = typing.get_type_hints(type(self), include_extras=True)
        decide = [
            name
            for name in (field.name for field in dataclasses.fields(self))  # type: ignore[arg-type]
            if not any(isinstance(m, FieldRole) for m in getattr(hints[name], "__metadata__", ()))
        ]
        return {"class": type(self).__name__} | {n: _plain(getattr(self, n)) for n in decide}

    def baselines(self, corpus: Any, *, mesh: Any = None) -> Mapping[str, Result]:
        """System → what is measured of it; none here."""
        del corpus, mesh
        return {}

    def selection(self, values: Mapping[str, float]) -> Selection:
        """The number that checkpoints are compared by: the first that was measured."""
        name = next(iter(values))
        return Selection(name=name, value=values[name])

    def slices(self, embeddings: Any, corpus: Any, label_kinds: LabelKinds) -> Mapping[str, Slices]:
        """What is asked → results by what the videos are, of embeddings f32[N, D]; none here."""
        del embeddings, corpus, label_kinds
        return {}

    def counts(self, corpus: Any) -> Mapping[str, Mapping[str, int]]:
        """What is asked → how many `queries` there are, and how many are `left_out`."""
        del corpus
        return {}


def _plain(value: Any) -> Any:
    """A part as its class and fields; anything else as it is."""
    if not dataclasses.is_dataclass(value):
        return value
    return {"class": type(value).__name__} | {n: _plain(of) for n, of in vars(value).items()}

"""Protocols of the parts of a recipe. The engine imports none of the parts themselves.

A part is a frozen dataclass of options. Objects opened on data (a corpus, a feed) come from the
`open` of their options and do not belong to a recipe.
"""

from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from typing import Any, Protocol

import numpy as np

Arrays = Mapping[str, Any]
"""A pytree of arrays with names."""
Batch = dict[str, Any]
ONE_HOST = (0, 1)
"""The part of a batch that a host makes: its number, and the number of hosts."""


class Corpus(Protocol):
    """The opened data of a run. Feeds and evaluators use more of it than the engine."""

    @property
    def space(self) -> Mapping[str, str]:
        """Modality → name of its feature space; features of different spaces are never compared."""

    @property
    def rows(self) -> str:
        """Digest of the data, independent of their location."""

    @property
    def notes(self) -> tuple[str, ...]:
        """Remarks on the data for the terminal."""

    @property
    def simulated(self) -> bool:
        """Whether the user behaviour in it is simulated."""

    def check(self, batch: Arrays) -> None:
        """Raises if a batch has videos or relations that must not be trained on."""


class CorpusOptions(Protocol):
    """The paths of the data, and how to split them."""

    def open(self) -> Any:
        """The `Corpus`; raises if a file is missing or does not fit."""


class Feed(Protocol):
    """Batches of one run, each a pure function of the step, and all that derives from the data."""

    split_axes: Mapping[str, int | None]
    """Entry of a batch → its axis that is split over the mesh's data axis; None is whole."""

    @property
    def spec(self) -> Any:
        """A frozen dataclass of sizes that determine the shapes of the state. It is stored with the
        run, and only its task uses its fields."""

    @property
    def fingerprint(self) -> str:
        """Digest of everything that the batches depend on besides the step."""

    @property
    def notes(self) -> tuple[str, ...]:
        """Remarks on the batches for the terminal."""

    @property
    def events(self) -> tuple[str, ...]:
        """Names of the events that `events_of` may report."""

    @property
    def one_pass(self) -> tuple[int, str]:
        """The number of examples in one pass, and what they are, such as "train relations"."""

    @property
    def whole_steps(self) -> int | None:
        """The exact number of steps of this feed; None if any number is allowed."""

    def statistics(self) -> Any:
        """Statistics to standardise the task's inputs; None if not needed. Called once per run."""

    def resident(self) -> Arrays:
        """Arrays that stay on the devices, split over them by the first axis; {} if there are none.
        A batch then has `rows` i32[..., B], whole on every host, which index these arrays."""

    def at(self, step: int, part: tuple[int, int] = ONE_HOST) -> Batch:
        """Host `part[0]`'s part, of `part[1]` hosts, of batch `step`, from 0. An entry `weight`
        f32[] multiplies the batch's gradient; see `Optimiser.accumulate`."""

    def batches(
        self, start: int, stop: int, part: tuple[int, int] = ONE_HOST
    ) -> Generator[tuple[int, Batch, float], None, None]:
        """(step, batch, seconds waited for it) of steps start..stop-1."""

    def ids_at(self, step: int) -> np.ndarray:
        """Ids of all items in batch `step`, for messages about it."""

    def events_of(self, batch: Batch) -> Iterable[str]:
        """Names of rare events that apply to this batch, to be counted."""


class FeedOptions(Protocol):
    """How batches are drawn."""

    @property
    def unit(self) -> str:
        """The plural noun for examples, such as triplets; the option of the size is batch_UNIT."""

    @property
    def examples(self) -> int:
        """Examples per batch; they are split over the devices."""

    def open(self, corpus: Any, *, seed: int, reads: tuple[str, ...] = ()) -> Any:
        """The `Feed`; `reads`: the names of the corpus entries that the task reads."""


class Output(Protocol):
    """A function of a trained model, such as an embedding."""

    @property
    def needs(self) -> tuple[str, ...]:
        """Prefixes of the names of the checkpoint entries that it needs, such as
        parameters/towers."""

    @property
    def apply(self) -> Callable[[Any, Any, Any], Any]:
        """(parameters, state, arrays) → f32[B, D]."""

    @property
    def read(self) -> Callable[[Any, np.ndarray], Any]:
        """(source, rows i64[B]) → the `arrays` of `apply` for these rows: a dictionary of trees of
        arrays [B, ...]."""

    @property
    def lengths(self) -> Callable[[Any, np.ndarray], np.ndarray] | None:
        """(source, rows i64[B]) → i64[B], by which rows are sorted into blocks, or None."""


class Task(Protocol):
    """A training objective: it computes the loss of a batch."""

    @property
    def learns_from(self) -> str:
        """The unit of the feeds that it accepts."""

    @property
    def reads(self) -> tuple[str, ...]:
        """The names of the corpus entries that it reads."""

    @property
    def outputs(self) -> Mapping[str, Any]:
        """Name → `Output`."""

    def init(self, key: Any, spec: Any, statistics: Any) -> tuple[dict[str, Any], Any]:
        """(parameters, state) before the first update; without statistics (None), the shapes are
        the same. Parameters are a flat dictionary; the state changes without a gradient. Its entry
        `batch_statistics`, if any, is averaged if parameters are."""

    def layout(
        self, parameters: Arrays, state: Any
    ) -> tuple[Mapping[str, int | None], Mapping[str, int | None]]:
        """The axis of each parameter that is split over the mesh's model axis, by name, and that of
        each array of the state, by path. Other arrays lie whole on every device."""

    def loss_and_measures(
        self, parameters: Any, state: Any, constants: Arrays, batch: Arrays, key: Any
    ) -> tuple[Any, tuple[Any, dict[str, Any]]]:
        """(loss f32[], (state, measures)) of a batch; `constants` are the feed's resident arrays.
        `loss` is among the measures."""

    def diagnose(self, lines: Sequence[Mapping[str, Any]], *, finished: bool) -> Mapping[str, str]:
        """Warnings by name, from the journal's lines."""

    @property
    def inherits(self) -> tuple[str, ...]:
        """Prefixes of the paths in the state that a run copies from another run: "parameters",
        "state/inputs"."""

    @property
    def of_texts(self) -> tuple[str, ...]:
        """Prefixes of the paths of arrays that hold for one vocabulary or sentence encoder only."""

    @property
    def fixed_classes(self) -> int:
        """The first classes that the run it is initialised from must have, since they do not
        learn; 0 if all learn."""

    def masked(self, updates: Arrays, state: Any) -> Arrays:
        """The updates of the parameters, by name, with zeros for rows that must not change, and
        smaller ones for parameters that learn more slowly."""

    def solve(self, parameters: Arrays, state: Any) -> Mapping[str, Any] | None:
        """After a phase's last step: arrays that replace parameters, by name, or None. Runs on the
        host; arrays of the state that it reads lie whole on every device."""

    def grown_axis(self, name: str) -> int | None:
        """The axis of a parameter, or of an array of the state by path, that may be longer than in
        the run it is initialised from."""


class Evaluator(Protocol):
    """A measurement of a model, with its baselines; it may have its own data."""

    def identity(self) -> Mapping[str, Any]:
        """`class`, and the options that determine what is measured."""

    def check(self, corpus: Any) -> None:
        """Raises ValueError if there is nothing to measure."""

    def run(
        self, outputs: Mapping[str, Callable[[Any], np.ndarray]], corpus: Any, *, mesh: Any
    ) -> Any:
        """A `Result` of values with intervals, by names such as direction/metric, and per item with
        ids. An output maps a source, and optionally some of its rows i64[N], to vectors
        f32[N, D]."""

    def baselines(self, corpus: Any, *, mesh: Any) -> Mapping[str, Any]:
        """System → `Result` of the systems that need no training."""

    def selection(self, values: Mapping[str, float]) -> Any:
        """The `Selection` (name, value) that compares checkpoints; higher is better."""

    def counts(self, corpus: Any) -> Mapping[str, Any]:
        """Numbers of queries for reports, such as direction → {"queries", "left_out"}."""

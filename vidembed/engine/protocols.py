"""What the engine asks of the parts of a recipe; it imports none of them.

A part is a frozen dataclass of options. What is opened on data (a corpus, a feed) is made by its
options' `open` and is no part of a recipe.
"""

from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from typing import Any, Protocol

import numpy as np

Arrays = Mapping[str, Any]
"""A pytree of arrays with names."""
Batch = dict[str, Any]
ONE_HOST = (0, 1)
"""The part of a batch that a host makes: its number, and how many hosts there are."""


class Corpus(Protocol):
    """What a run is about, opened. Feeds and evaluators see more of it than the engine."""

    @property
    def space(self) -> Mapping[str, str]:
        """Modality → what made its numbers; values of two spaces are never compared."""

    @property
    def rows(self) -> str:
        """Digest of the data: equal data give the same, wherever they lie."""

    @property
    def notes(self) -> tuple[str, ...]:
        """What there is to say of the data, for people."""

    @property
    def simulated(self) -> bool:
        """Whether people's behaviour in it is simulated."""

    def check(self, batch: Arrays) -> None:
        """Raises where a batch holds what is not to be trained on."""


class CorpusOptions(Protocol):
    """Where the data are, and how they are split."""

    def open(self) -> Any:
        """The `Corpus`; raises where a file is missing or does not fit."""


class Feed(Protocol):
    """Batches of one run, each a pure function of the step, and all that follows from the data."""

    split_axes: Mapping[str, int | None]
    """Entry of a batch → its axis that is split over the mesh's data axis; None is whole."""

    @property
    def spec(self) -> Any:
        """A frozen dataclass of sizes that the shapes of the state follow from. It is stored with
        the run, and only its task looks into it."""

    @property
    def fingerprint(self) -> str:
        """Digest of all that the batches depend on besides the step."""

    @property
    def notes(self) -> tuple[str, ...]:
        """What there is to say of the batches, for people."""

    @property
    def events(self) -> tuple[str, ...]:
        """Names of what `events_of` may say."""

    @property
    def one_pass(self) -> tuple[int, str]:
        """How many examples are one pass over what is drawn from, and what that is."""

    @property
    def whole_steps(self) -> int | None:
        """How many steps there are, no more and no less; None: as many as are asked for."""

    def statistics(self) -> Any:
        """What the task's inputs are standardised by; None if they are not. Asked once a run."""

    def resident(self) -> Arrays:
        """Arrays that lie on the devices, their first axes split over these; {} if there are none.
        A batch then has `rows` i32[..., B], whole on every host, which number them."""

    def at(self, step: int, part: tuple[int, int] = ONE_HOST) -> Batch:
        """Batch `step`, from 0, as the host of that number, of so many, holds it. An entry `weight`
        f32[] is what the batch's gradient counts for; see `Optimiser.accumulate`."""

    def batches(
        self, start: int, stop: int, part: tuple[int, int] = ONE_HOST
    ) -> Generator[tuple[int, Batch, float], None, None]:
        """(step, batch, seconds waited for it) of steps start..stop-1."""

    def ids_at(self, step: int) -> np.ndarray:
        """Ids of all that is in batch `step`, for messages about it."""

    def events_of(self, batch: Batch) -> Iterable[str]:
        """Rare events that this batch is one of, to be counted."""


class FeedOptions(Protocol):
    """How batches are drawn."""

    @property
    def unit(self) -> str:
        """What a batch is counted in; its option is named batch_UNIT."""

    @property
    def examples(self) -> int:
        """How many of these make a batch: what is split over the devices."""

    def open(self, corpus: Any, *, seed: int, reads: tuple[str, ...] = ()) -> Any:
        """The `Feed`; `reads` names what the task reads of the corpus."""


class Output(Protocol):
    """What a trained model can be asked for."""

    @property
    def needs(self) -> tuple[str, ...]:
        """Beginnings of the names of what it needs of a checkpoint, such as parameters/towers."""

    @property
    def apply(self) -> Callable[[Any, Any, Any], Any]:
        """(parameters, state, arrays) → f32[B, D]."""

    @property
    def read(self) -> Callable[[Any, np.ndarray], Any]:
        """(source, rows i64[B]) → what `apply` is to have of these rows: a dictionary of trees of
        arrays [B, ...]."""


class Task(Protocol):
    """A way of learning: it turns a batch into a number."""

    @property
    def learns_from(self) -> str:
        """The unit of the feed that it takes."""

    @property
    def reads(self) -> tuple[str, ...]:
        """What it reads of the corpus."""

    @property
    def outputs(self) -> Mapping[str, Any]:
        """Name → `Output`."""

    def init(self, key: Any, spec: Any, statistics: Any) -> tuple[dict[str, Any], Any]:
        """(parameters, state) before the first update; without statistics (None) of equal shapes.
        Parameters are a flat dictionary; the state is what changes without a gradient. Its entry
        `batch_statistics`, if there is one, is averaged where parameters are."""

    def layout(
        self, parameters: Arrays, state: Any
    ) -> tuple[Mapping[str, int | None], Mapping[str, int | None]]:
        """The axis of each parameter that is split over the mesh's model axis, by name, and that of
        each array of the state, by path. What is not named lies whole on every device."""

    def loss_and_measures(
        self, parameters: Any, state: Any, constants: Arrays, batch: Arrays, key: Any
    ) -> tuple[Any, tuple[Any, dict[str, Any]]]:
        """(loss f32[], (state, measures)) of a batch; `constants` are the feed's resident arrays.
        `loss` is among the measures."""

    def diagnose(self, lines: Sequence[Mapping[str, Any]], *, finished: bool) -> Mapping[str, str]:
        """Warnings by name, from the journal's lines."""

    @property
    def inherits(self) -> tuple[str, ...]:
        """Beginnings of the paths of the state that a run takes over from another: "parameters",
        "state/inputs"."""

    def masked(self, updates: Arrays, state: Any) -> Arrays:
        """What is added to the parameters, by name, with zeros for rows that do not learn."""

    def solve(self, parameters: Arrays, state: Any) -> Mapping[str, Any] | None:
        """When a phase's last step is done: arrays that take the place of the parameters, by name,
        or None. On the host; arrays of the state that it reads lie whole on every device."""

    def grown_axis(self, name: str) -> int | None:
        """The axis of a parameter that may be longer than in the run that it begins from."""


class Evaluator(Protocol):
    """A way of measuring, with baselines of its own; it may bring data."""

    def identity(self) -> Mapping[str, Any]:
        """`class`, and the options that decide what is measured."""

    def check(self, corpus: Any) -> None:
        """Raises ValueError if there is nothing to measure."""

    def run(
        self, outputs: Mapping[str, Callable[[Any], np.ndarray]], corpus: Any, *, mesh: Any
    ) -> Any:
        """A `Result` of values with intervals, by names such as direction/metric, and per item with
        ids. An output takes a source, and
        rows of it i64[N] where not all are wanted, and gives their vectors f32[N, D]."""

    def baselines(self, corpus: Any, *, mesh: Any) -> Mapping[str, Any]:
        """System → `Result` of what needs no training."""

    def selection(self, values: Mapping[str, float]) -> Any:
        """The `Selection` (name, value) by which checkpoints are compared; higher is better."""

    def counts(self, corpus: Any) -> Mapping[str, Any]:
        """What was asked, for people: such as direction → {"queries", "left_out"}."""

"""What a task is where it does not say otherwise."""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from vidembed.tasks.outputs import Output

Axes = dict[str, int | None]


class Task:
    """Defaults of what the engine asks of a task.

    A task is a frozen dataclass that adds `learns_from` (the unit of the feeds that it goes with),
    `init(key, spec, statistics)` and `loss_and_measures(parameters, state, constants, batch, key)`.
    """

    inherits: ClassVar[tuple[str, ...]] = ("parameters", "state")
    """Beginnings of the paths of the training state that a run takes over where it begins from
    another run. What describes the run's own data is none of them."""

    @property
    def reads(self) -> tuple[str, ...]:
        """The modalities that a batch must have; () where the task reads no features."""
        return ()

    @property
    def outputs(self) -> Mapping[str, Output]:
        """Named functions of what was trained."""
        return {}

    def layout(self, parameters: Mapping[str, Any], state: Mapping[str, Any]) -> tuple[Axes, Axes]:
        """How the training state lies on the mesh: the axis of each array that is split over the
        model axis.

        For each parameter by name, None where it is not split; and for arrays of the state by path,
        such as "queue/vectors", where those not named are not split. Arrays or their shapes.
        """
        return dict.fromkeys(parameters), {}

    def masked(self, updates: Mapping[str, Any], state: Any) -> Mapping[str, Any]:
        """What is added to the parameters, by name, with zeros for rows that do not learn; here
        every row does."""
        return updates

    def solve(self, parameters: Mapping[str, Any], state: Any) -> Mapping[str, Any] | None:
        """The parameters in numpy that take the place of these when a phase's last step is done;
        None: they stay as they were learnt."""
        return None

    def grown_axis(self, name: str) -> int | None:
        """The axis along which a parameter may be longer than in the run that this one begins from.

        Rows of zeros at its end are padding. None where the shape must be the same.
        """
        return None

    def diagnose(self, lines: Sequence[Mapping[str, Any]], *, finished: bool) -> dict[str, str]:
        """Warnings by name, from the journal's lines of a run that is finished or goes on."""
        return {}

"""The base class of tasks: defaults for what the engine calls."""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from vidembed.tasks.outputs import Output

Axes = dict[str, int | None]


class Task:
    """Defaults for the methods and attributes that the engine uses.

    A task is a frozen dataclass that adds `learns_from` (the unit of the feeds it works with),
    `init(key, spec, statistics)` and `loss_and_measures(parameters, state, constants, batch, key)`.
    """

    inherits: ClassVar[tuple[str, ...]] = ("parameters", "state")
    """Path prefixes of the training state that a run inherits from the run it starts from. What
    describes the run's own data is not inherited."""

    optimised: ClassVar[bool] = True
    """Whether updates follow a loss; otherwise the loss is always 0 and not worth showing."""

    fixed_classes: int = 0
    """The first classes that a run has from the run it starts from, and that do not learn."""

    attention: tuple[str, ...] = ()
    """Modalities whose frames are pooled with learned weights."""

    @property
    def reads(self) -> tuple[str, ...]:
        """The modalities that a batch must have; () if the task reads no features."""
        return ()

    @property
    def of_texts(self) -> tuple[str, ...]:
        """Path prefixes of the arrays that hold for one vocabulary or sentence encoder only."""
        return ()

    @property
    def outputs(self) -> Mapping[str, Output]:
        """Outputs of the trained parameters, by name."""
        return {}

    def layout(self, parameters: Mapping[str, Any], state: Mapping[str, Any]) -> tuple[Axes, Axes]:
        """How the training state is laid out on the mesh: which axis of each array is split over
        the model axis.

        Returns axes of parameters by name, None if not split, and of arrays of the state by path,
        such as "queue/vectors"; those not named are not split. Takes arrays or their shapes.
        """
        return dict.fromkeys(parameters), {}

    def masked(self, updates: Mapping[str, Any], state: Any) -> Mapping[str, Any]:
        """The parameter updates, by name, with zeros for rows that must not learn, and smaller
        ones for parameters that learn more slowly; by default every row learns alike."""
        return updates

    def solve(self, parameters: Mapping[str, Any], state: Any) -> Mapping[str, Any] | None:
        """Parameters in numpy that replace the learnt ones after a phase's last step; None keeps
        the learnt ones."""
        return None

    def grown_axis(self, name: str) -> int | None:
        """The axis along which an array may be longer than in the run that this one starts from.

        name: of a parameter, or the path of an array of the state ("state/classes/log_odds"). The
        axis counts the classes if the feeds name them; otherwise rows of zeros at its end are
        padding. None if the shape must be the same.
        """
        return None

    @property
    def stop_at(self) -> Mapping[str, str]:
        """Names of the warnings of `diagnose` that stop a running training → how to go on in spite
        of them."""
        return {}

    def diagnose(self, lines: Sequence[Mapping[str, Any]], *, finished: bool) -> dict[str, str]:
        """Warnings by name, from the journal lines of a finished or running run."""
        return {}

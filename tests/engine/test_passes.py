"""Lengths in passes as steps, on feeds of known size."""

from dataclasses import dataclass, replace
from types import SimpleNamespace

import pytest

from tests.engine.test_phases import SGD, Linear
from vidembed.engine.passes import Lengths
from vidembed.engine.recipe import Phase, Recipe, Retention


@dataclass(frozen=True, kw_only=True)
class Counted:
    """A feed of `size` numbers."""

    size: int
    whole_steps: int | None = None
    unit = "numbers"
    examples = 8

    def open(self, corpus, *, seed, reads=()):
        return SimpleNamespace(one_pass=(self.size, "numbers"), whole_steps=self.whole_steps)


def recipe(size=20, **parts):
    options = {"corpus": SimpleNamespace(), "task": Linear(), "feed": Counted(size=size)}
    return Recipe(**options | {"optimiser": SGD, "steps": 1000} | parts)


@pytest.mark.parametrize(
    ("size", "passes", "steps"),
    [(16, 3, 6), (17, 3, 9), (24, 3, 9), (1, 3, 3), (24, 0.5, 2), (24, 0.1, 1), (17, 2.5, 8)],
)
def test_a_pass_is_a_whole_number_of_steps(size, passes, steps):
    found, words = Lengths(passes=passes).in_steps(recipe(size), None)
    assert found == recipe(size, steps=steps)
    assert f"a pass over {size} numbers is {-(-size // 8)} steps: training {passes}" in words
    assert f"({steps} steps)" in words


def test_every_length_is_set_and_the_others_stay():
    lengths = Lengths(passes=30, decay_passes=10, checkpoint_passes=2)
    of = recipe(
        optimiser=replace(SGD, accumulate=2),
        checkpoints=Retention(every_steps=5),
        evaluate_every=15,
    )
    found, words = lengths.in_steps(of, None)
    assert found == replace(
        of,
        steps=90,
        optimiser=replace(SGD, accumulate=2, decay_steps=15),  # updates of two steps
        checkpoints=Retention(every_steps=6),
        evaluate_every=18,
    )
    assert words == (
        "a pass over 20 numbers is 3 steps: training 30 passes (90 steps), between decays of the "
        "learning rate 10 passes (30 steps), between checkpoints 2 passes (6 steps)"
    )
    assert Lengths().in_steps(of, None) == (of, "")
    cosine = replace(of, optimiser=replace(SGD, schedule="cosine"))
    assert "decays" not in lengths.in_steps(cosine, None)[1]


@pytest.mark.fault(
    "Runs: a length in passes, of a recipe whose feeds have no pass in common",
    "refused before anything is trained",
)
def test_what_has_no_pass_is_refused():
    phases = recipe(phases=(Phase(steps=2), Phase(steps=3)))
    with pytest.raises(ValueError, match=r"--passes: the phases of this recipe .* give --steps"):
        Lengths(passes=3).in_steps(phases, None)
    whole = recipe(feed=Counted(size=20, whole_steps=3))
    with pytest.raises(ValueError, match="--checkpoint-passes: Counted makes exactly one pass"):
        Lengths(checkpoint_passes=3).in_steps(whole, None)
    for wrong in (0, -1, float("nan"), float("inf")):
        with pytest.raises(ValueError, match="must be above zero"):
            Lengths(decay_passes=wrong)

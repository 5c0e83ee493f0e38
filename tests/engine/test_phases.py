"""Where a step lies among phases, what learns there, and gradients gathered over batches."""

from dataclasses import dataclass, replace
from itertools import cycle, islice, pairwise
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vidembed.distributed.mesh import MeshShape, make_mesh
from vidembed.engine.optimiser import Adam, Optimiser, Sgd
from vidembed.engine.recipe import Phase, Recipe
from vidembed.engine.step import compile_update, new_state, state_shape
from vidembed.tasks.task import Task

STILL = {"decay": 0.0}
SGD = Optimiser(rule=Sgd(momentum=0.0), learning_rate=0.1, **STILL)


@dataclass(frozen=True, kw_only=True)
class Numbers:
    """A feed's options; batches are made here."""

    batch_numbers: int = 8
    unit: ClassVar[str] = "numbers"

    @property
    def examples(self):
        return self.batch_numbers

    def open(self, corpus, *, seed, reads=()):
        raise AssertionError


@dataclass(frozen=True, kw_only=True)
class Linear(Task):
    learns_from: ClassVar[str] = "numbers"

    def init(self, key, spec, statistics):
        parameters = {"deep/kernel": jnp.ones((3, 2)), "head/kernel": jnp.ones(2)}
        return parameters, {"batch_statistics": {"mean": jnp.zeros(3)}}

    def loss_and_measures(self, parameters, state, constants, batch, key):
        hidden = jnp.tanh(batch["x"] @ parameters["deep/kernel"])
        loss = jnp.mean(jnp.square(hidden @ parameters["head/kernel"] - batch["y"]))
        mean = 0.5 * state["batch_statistics"]["mean"] + 0.5 * batch["x"].mean(0)
        return loss, ({"batch_statistics": {"mean": mean}}, {"loss": loss})


def recipe(**parts):
    options = {"optimiser": SGD, "steps": 50} | parts
    return Recipe(corpus=Corpus(), task=Linear(), feed=Numbers(), **options)


@dataclass(frozen=True, kw_only=True)
class Corpus:
    def open(self):
        return self


def batch(step, size=8):
    x = np.random.default_rng(step).normal(size=(size, 3)).astype(np.float32)
    return {"x": x, "y": np.sin(x.sum(1))}


def states(of, batches):
    """The state before the first update and after each."""
    mesh = make_mesh(MeshShape(), jax.devices()[:1])
    shape = state_shape(of, None, mesh)
    updates = [compile_update(of, shape, mesh, phase=n) for n in range(len(of.resolved_phases))]
    with jax.set_mesh(mesh):
        state = new_state(of, None, None)
        found, measured = [jax.device_get(state)], []
        for step, each in enumerate(batches):
            state, measures = updates[of.position(step).phase](state, {}, each)
            found.append(jax.device_get(state))
            measured.append(jax.device_get(measures))
    return found, measured


@pytest.mark.parametrize("lengths", [(1,), (3,), (2, 1), (1, 5, 2), (4, 4)])
def test_a_step_lies_where_a_loop_would_come_to_it(lengths):
    of = recipe(phases=tuple(Phase(steps=steps) for steps in lengths))
    walk = ((n, i, steps) for n, steps in cycle(enumerate(lengths)) for i in range(steps))
    done = [0] * len(lengths)
    for step, (phase, i, steps) in enumerate(islice(walk, 40)):
        assert of.position(step) == (phase, done[phase], steps - i)
        done[phase] += 1


def test_without_phases_the_run_is_one():
    assert [recipe().position(step) for step in (0, 7)] == [(0, 0, 50), (0, 7, 43)]


def test_phases_that_cannot_be_are_refused():
    with pytest.raises(ValueError, match="1 step or more, found 0"):
        Phase(steps=0)
    gathering = replace(SGD, accumulate=3)
    with pytest.raises(ValueError, match="a phase of 4 steps ends within an update of 3"):
        recipe(phases=(Phase(steps=4, optimiser=gathering),))
    wrong = recipe(learns=("deep", "haed"))
    with pytest.raises(
        ValueError,
        match=r"no parameter 'haed', nor .*; there are deep/kernel",
    ):
        states(wrong, [])


def test_what_does_not_learn_stays_bit_for_bit():
    """Moments and rates of each phase go by its own steps alone."""
    adam = Optimiser(rule=Adam(), learning_rate=0.1, decay=0.5, decay_steps=2)
    phases = (Phase(steps=2, learns=("deep",)), Phase(steps=3, learns=("head",), optimiser=adam))
    found, measured = states(recipe(phases=phases), map(batch, range(10)))
    for step, (before, after) in enumerate(pairwise(found)):
        first = step % 5 < 2
        learns, stays = ("deep/kernel", "head/kernel")[:: 1 if first else -1]
        np.testing.assert_array_equal(after["parameters"][stays], before["parameters"][stays])
        assert (after["parameters"][learns] != before["parameters"][learns]).all()
        other = str(int(first))
        for leaf, same in zip(
            *map(jax.tree.leaves, (after["optimiser"][other], before["optimiser"][other]))
        ):
            np.testing.assert_array_equal(leaf, same)
    rates = [float(m["learning_rate"]) for m in measured]
    # Six steps of the second phase: the rate is halved every two.
    assert rates == pytest.approx([0.1, 0.1, 0.1, 0.1, 0.05, 0.1, 0.1, 0.05, 0.025, 0.025])


def test_a_cosine_ends_with_the_last_round_of_its_phase():
    """7 of 13 steps belong to the second phase, whose third round is cut short."""
    cosine = replace(SGD, schedule="cosine", learning_rate=0.2)
    of = recipe(phases=(Phase(steps=2), Phase(steps=3, optimiser=cosine)), steps=13)
    assert [of.steps_of(phase) for phase in (0, 1)] == [6, 7]
    _, measured = states(of, map(batch, range(13)))
    rates = [float(m["learning_rate"]) for m in measured]
    falling = iter(0.1 * (1 + np.cos(np.pi * np.arange(7) / 7)))
    slow = [0.1 if step % 5 < 2 else next(falling) for step in range(13)]
    assert rates == pytest.approx(slow, rel=1e-5)
    assert recipe(steps=3, phases=of.phases).steps_of(1) == 1
    assert recipe(steps=2, phases=of.phases).steps_of(1) == 0
    with pytest.raises(ValueError, match="found 7 updates and warmup_steps 9"):
        replace(
            of, phases=(Phase(steps=2), Phase(steps=3, optimiser=replace(cosine, warmup_steps=9)))
        )


@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_batches_gathered_are_one_batch_of_all(momentum):
    sgd = replace(SGD, rule=Sgd(momentum=momentum), warmup_steps=3)
    parts = [batch(step) for step in range(12)]
    wholes = [
        {name: np.concatenate([part[name] for part in parts[i : i + 3]]) for name in parts[0]}
        for i in range(0, 12, 3)
    ]
    gathered, rates = states(recipe(optimiser=replace(sgd, accumulate=3)), parts)
    whole, rates_of_whole = states(recipe(optimiser=sgd), wholes)
    for step, state in enumerate(gathered):
        for name, value in whole[step // 3]["parameters"].items():
            np.testing.assert_allclose(state["parameters"][name], value, rtol=1e-5, atol=1e-6)
    assert [r["learning_rate"] for r in rates[::3]] == [r["learning_rate"] for r in rates_of_whole]


def test_a_last_part_counts_by_its_weight():
    """20 examples in batches of 8, 8 and 4: weighted by 6/5, 6/5 and 3/5 they are one of 20."""
    parts = [batch(0), batch(1), batch(2, 4)]
    whole = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    weighted = [part | {"weight": np.float32(len(part["y"]) * 3 / 20)} for part in parts]
    gathered, _ = states(recipe(optimiser=replace(SGD, accumulate=3)), weighted)
    once, _ = states(recipe(), [whole])
    for name, value in once[1]["parameters"].items():
        np.testing.assert_allclose(gathered[3]["parameters"][name], value, rtol=1e-5, atol=1e-6)


def test_batch_statistics_are_averaged_as_parameters_are():
    found, _ = states(recipe(optimiser=replace(SGD, average_decay=0.8)), map(batch, range(4)))
    weights = 0.8 ** np.arange(3, -1, -1)
    for kept, of in (
        ("average", lambda state: state["parameters"]["deep/kernel"]),
        ("average_statistics", lambda state: state["state"]["batch_statistics"]["mean"]),
    ):
        slow = np.average([of(state) for state in found[1:]], axis=0, weights=weights)
        [name] = [n for n in found[-1][kept] if n in ("deep/kernel", "mean")]
        np.testing.assert_allclose(found[-1][kept][name], slow, rtol=1e-5)
    assert "average_statistics" not in states(recipe(), [])[0][0]


def test_an_average_has_no_weight_while_gradients_are_gathered():
    """In phases, too: five updates are made of 3 batches, of 1 and 1, then of 3 and of 1."""
    gathering = replace(SGD, accumulate=3)
    phases = (Phase(steps=3, optimiser=gathering), Phase(steps=2))
    of = recipe(phases=phases, optimiser=replace(SGD, average_decay=0.8))
    found, _ = states(of, map(batch, range(9)))
    made = [found[step]["parameters"]["deep/kernel"] for step in (3, 4, 5, 8, 9)]
    slow = np.average(made, axis=0, weights=0.8 ** np.arange(4, -1, -1))
    np.testing.assert_allclose(found[9]["average"]["deep/kernel"], slow, rtol=1e-5)


@dataclass(frozen=True, kw_only=True)
class FirstRowStays(Linear):
    def masked(self, updates, state):
        learns = np.array([[0.0], [1.0], [1.0]], np.float32)
        return {**updates, "deep/kernel": updates["deep/kernel"] * learns}


def test_rows_that_a_task_masks_do_not_learn_even_with_weight_decay():
    optimiser = Optimiser(rule=Adam(), learning_rate=0.1, weight_decay=0.1)
    found, _ = states(
        replace(recipe(optimiser=optimiser), task=FirstRowStays()), [batch(0), batch(1)]
    )
    before, after = (found[step]["parameters"]["deep/kernel"] for step in (0, 2))
    np.testing.assert_array_equal(after[0], before[0])
    assert (after[1:] != before[1:]).all()


def test_what_a_phase_does_not_say_is_the_recipes():
    of = recipe(learns=("deep",), phases=(Phase(steps=1), Phase(steps=1, learns=("head",))))
    assert [phase.learns for phase in of.resolved_phases] == [("deep",), ("head",)]
    averaging = replace(SGD, average_decay=0.9)
    with pytest.raises(ValueError, match="set average_decay on the recipe's optimiser"):
        recipe(phases=(Phase(steps=1, optimiser=averaging),))

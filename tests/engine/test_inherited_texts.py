"""A run on captions that begins from another: the same words, or a text encoder drawn anew."""

from dataclasses import replace
from types import SimpleNamespace

import jax
import pytest

from vidembed.engine.init_from import Source, planned
from vidembed.engine.typed_json import to_json
from vidembed.models.text import Gru, Sentences
from vidembed.models.video_text import JointSpaces
from vidembed.recipes import jemc
from vidembed.tasks.spec import Spec
from vidembed.tasks.video_text import VideoText
from vidembed.workdir.checkpoints.record import entries_of

WORDS = VideoText(model=JointSpaces(spaces=("audio",), text=Gru(units=2, embedding=3)))
VECTORS = VideoText(model=JointSpaces(spaces=("audio",), text=Sentences(hidden=(), size=2)))


def of_words(*words):
    return Spec(widths={"audio": 2}, words=len(words), vocabulary=words)


def of_vectors(space):
    return Spec(widths={"audio": 2}, sentence_width=4, sentence_space=space)


def state_of(task, spec):
    parameters, state = jax.eval_shape(lambda: task.init(jax.random.key(0), spec, None))
    return {"parameters": parameters, "state": state}


def plan(task, theirs, ours, *, partial=False):
    """The plan of a run with the spec `ours` that begins from one with `theirs`."""
    recipe = {"spec": to_json(theirs), "fingerprints": {"corpus": "same"}}
    source = Source(
        SimpleNamespace(read_recipe=lambda: recipe),
        1,
        SimpleNamespace(entries=lambda step: entries_of(state_of(task, theirs))),
    )
    new = replace(jemc.recipe, task=task, init_partial=partial)
    return planned(new, source, state_of(task, ours), SimpleNamespace(rows="same"), ours)


@pytest.mark.fault(
    "Captions: a run that begins from one with other words, or another sentence encoder",
    "refused, naming the first word that differs, or both encoders; with `--init-partial` the text "
    "encoder is drawn anew",
)
@pytest.mark.parametrize(
    ("task", "theirs", "ours", "says"),
    [
        (WORDS, of_words("", "dog", "cat"), of_words("", "cat", "dog"),
         "another vocabulary, 3 words, here 3: word 1 is 'dog' there, 'cat' here"),
        (WORDS, of_words("", "dog", "cat"), of_words("", "dog"), "word 2 is 'cat' there, missing"),
        (VECTORS, of_vectors("a"), of_vectors("b"), "sentence vectors of a, this run those of b"),
    ],
)  # fmt: skip
def test_other_texts_are_refused_by_name(task, theirs, ours, says):
    with pytest.raises(ValueError, match=f"(?s){says}.*--init-partial"):
        plan(task, theirs, ours)
    made = plan(task, theirs, ours, partial=True)
    assert sorted(made.taken) == [
        "parameters/maps/0/bias", "parameters/maps/0/kernel",
        "state/inputs/audio/mean", "state/inputs/audio/scale",
    ]  # fmt: skip
    encoder = [line for line in made.differences if line.startswith("parameters/texts/0/")]
    assert len(encoder) == len(made.differences) - (task is VECTORS)  # and the vectors' mean
    assert all(line.endswith("drawn anew") for line in made.differences)


@pytest.mark.parametrize(
    ("task", "spec"), [(WORDS, of_words("", "dog")), (VECTORS, of_vectors("a"))]
)
def test_the_same_texts_are_taken_whole(task, spec):
    made = plan(task, spec, spec)
    assert made.differences == ()
    assert set(made.taken) == set(entries_of(state_of(task, spec)))

"""Parts that are given from Python, and that no file of vidembed names, make a run."""

import json
from dataclasses import dataclass
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vidembed.distributed.mesh import MeshShape, make_mesh
from vidembed.distributed.stopping import StopFlag
from vidembed.engine.evaluate import EvaluationJob
from vidembed.engine.evaluation import Evaluation, evaluation_of, recipe_of
from vidembed.engine.model import load_model
from vidembed.engine.recipe import Recipe, Retention
from vidembed.engine.train import train
from vidembed.engine.typed_json import RecipeError
from vidembed.evaluators.related_videos import RelatedVideos
from vidembed.feeds.triplets import Triplets
from vidembed.metrics.intervals import Selection
from vidembed.models.fusion import LateFusion, Layers
from vidembed.progress import Progress
from vidembed.tasks.metric_learning import MetricLearning
from vidembed.tasks.outputs import Output
from vidembed.tasks.video import batch_features
from vidembed.workdir.layout import Workdir


@dataclass(frozen=True, kw_only=True)
class Squares:
    """A loss."""

    margin: float = 0.2

    def __call__(self, positive_distance, negative_distance):
        return jnp.square(positive_distance) - jnp.tanh(negative_distance)


@dataclass(frozen=True, kw_only=True)
class Line:
    """A task, all of whose methods are its own: related videos are near on a line."""

    modality: str = "visual"
    learns_from: ClassVar[str] = "triplets"
    inherits: ClassVar[tuple[str, ...]] = ("parameters",)
    fixed_classes: ClassVar[int] = 0
    of_texts: ClassVar[tuple[str, ...]] = ()

    @property
    def reads(self):
        return (self.modality,)

    @property
    def outputs(self):
        return {"place": Output(apply=self.place, read=self.read, needs=("parameters/slope",))}

    def init(self, key, spec, statistics):
        return {"slope": jax.random.normal(key, (spec.widths[self.modality], 1))}, {}

    def layout(self, parameters, state):
        return {}, {}

    def grown_axis(self, name):
        return None

    def masked(self, updates, state):
        return updates

    def solve(self, parameters, state):
        return None

    def diagnose(self, lines, *, finished):
        return {}

    def read(self, source, rows):
        return {"features": source.features[self.modality][rows]}

    def place(self, parameters, state, arrays):
        return arrays["features"].astype(jnp.float32) / 255 @ parameters["slope"]

    def loss_and_measures(self, parameters, state, constants, batch, key):
        features, _ = batch_features(constants, batch)
        negative, positive, anchor = self.place(
            parameters, state, {"features": features[self.modality]}
        )
        near, far = jnp.square(anchor - positive), jnp.square(anchor - negative)
        loss = jnp.mean(jax.nn.softplus(near - far))
        return loss, (state, {"loss": loss})


@dataclass(frozen=True, kw_only=True)
class Places:
    """An evaluator."""

    output: str = "place"

    def identity(self):
        return {"class": "Places", "output": self.output}

    def check(self, corpus):
        pass

    def run(self, outputs, corpus, *, mesh):
        found = RelatedVideos().run({"video": outputs[self.output]}, corpus, mesh=mesh)
        return found._replace(scores={"ndcg": found.scores["eval_to_train/ndcg@10"]})

    def baselines(self, corpus, *, mesh):
        return {}

    def selection(self, values):
        return Selection(name="ndcg", value=values["ndcg"])

    def counts(self, corpus):
        return {}


MODEL = LateFusion(layers=Layers(hidden=(16,), size=8))
LOSS = MetricLearning(model=MODEL, loss=Squares(margin=0.3))
CASES = [
    pytest.param(LOSS, Squares, "recipe.task.loss", RelatedVideos(), id="loss"),
    pytest.param(Line(), Line, "recipe.task", Places(), id="task"),
]


def run(recipe, path, corpus, evaluator, *, until=None):
    """Trains on one device; asked to stop after so many steps, it saves what it has."""
    workdir = Workdir(path)
    with StopFlag() as stop, workdir.lease() as lease:

        def ask(step):
            stop.asked = step == until
            return {}

        reached = train(
            recipe,
            workdir,
            lease=lease,
            stop=stop,
            corpus=corpus,
            progress=Progress(quiet=True),
            evaluation=Evaluation(evaluators=(evaluator,)),
            evaluate=ask,
            devices=jax.devices()[:1],
        )
    assert reached == (until or recipe.steps)
    return workdir


@pytest.mark.parametrize(("task", "stranger", "place", "evaluator"), CASES)
def test_it_trains_is_stopped_goes_on_and_is_measured(
    task, stranger, place, evaluator, corpus_paths, corpus, tmp_path
):
    recipe = Recipe(
        corpus=corpus_paths,
        task=task,
        feed=Triplets(batch_triplets=32, read_threads=0, prefetch_batches=0),
        checkpoints=Retention(every_steps=2),
        steps=5,
        log_every=1,
        evaluate_every=2,
    )
    whole = run(recipe, tmp_path / "whole", corpus, evaluator)
    parts = run(recipe, tmp_path / "parts", corpus, evaluator, until=2)
    with pytest.raises(
        RecipeError, match=f"{place}: .*:{stranger.__name__}. is not a class of vid"
    ):
        recipe_of(parts)
    classes = (stranger, Places)
    assert recipe_of(parts, classes) == recipe
    run(recipe_of(parts, classes), parts.path, corpus, evaluator)
    mesh = make_mesh(MeshShape(), jax.devices()[:1])
    models = [load_model(w, "latest", mesh=mesh, classes=classes) for w in (whole, parts)]
    [output] = models[0]
    one, other = (model[output](corpus.table) for model in models)
    np.testing.assert_array_equal(one, other)
    evaluation = evaluation_of(parts, classes)
    assert evaluation.evaluators == (evaluator,)
    job = EvaluationJob(
        recipe_of(parts, classes), evaluation, parts, corpus=corpus, mesh=mesh, classes=classes
    )
    [result] = job.measure(5)
    assert result == json.loads(json.dumps(result))
    assert job.step_named("best") == 5
    assert 0 < result["selection"]["value"] < 1

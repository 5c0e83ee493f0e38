"""The loop learns what there is to learn: a score, and chance where relations say nothing."""

from dataclasses import replace

import jax
import numpy as np

from vidembed.distributed.mesh import MeshShape, make_mesh
from vidembed.distributed.stopping import StopFlag
from vidembed.engine.evaluate import EvaluationJob
from vidembed.engine.evaluation import Evaluation
from vidembed.engine.optimiser import Optimiser
from vidembed.engine.recipe import Recipe, Retention
from vidembed.engine.train import train
from vidembed.evaluators.baselines import chance
from vidembed.evaluators.related_videos import RelatedVideos
from vidembed.feeds.triplets import Triplets
from vidembed.graph.relation import RelationGraph
from vidembed.models.fusion import LateFusion, Layers
from vidembed.progress import Progress
from vidembed.tasks.metric_learning import MetricLearning
from vidembed.workdir.layout import Workdir

QUIET = Progress(quiet=True)
ONE = [jax.devices()[0]]


def ndcg(corpus_paths, corpus, path, step=150):
    recipe = Recipe(
        corpus=corpus_paths,
        task=MetricLearning(model=LateFusion(layers=Layers(hidden=(32,), size=16))),
        feed=Triplets(batch_triplets=64),
        optimiser=Optimiser(learning_rate=5e-3),
        checkpoints=Retention(every_steps=150),
        steps=150,
        log_every=5,
    )
    workdir = Workdir(path)
    with StopFlag() as stop, workdir.lease() as lease:
        said: list[str] = []
        progress = Progress(quiet=True)
        progress.say = said.append
        options = {"lease": lease, "stop": stop, "progress": progress, "devices": ONE}
        train(recipe, workdir, corpus=corpus, **options)
        # It shrinks at first, as every network does, and that is no collapse.
        assert not [line for line in said if "WARNING" in line]
    mesh = make_mesh(MeshShape(), ONE)
    evaluator = RelatedVideos()
    measured_by = Evaluation(evaluators=(evaluator,))
    job = EvaluationJob(recipe, measured_by, workdir, corpus=corpus, mesh=mesh, progress=QUIET)
    embeddings = job.model(step)["video"](corpus.table)
    found = evaluator.per_query(embeddings, corpus, "eval_to_train", mesh=mesh)
    random = chance(evaluator, corpus, "eval_to_train", seed=0)
    return found.values["ndcg@10"].mean(), random.values["ndcg@10"]


def test_training_finds_the_groups_of_new_videos(corpus_paths, corpus, tmp_path):
    trained, _ = ndcg(corpus_paths, corpus, tmp_path)
    untrained, _ = ndcg(corpus_paths, corpus, tmp_path, step=0)
    # Half of each group is related, so that even a perfect embedding misses some.
    assert trained > 0.6
    assert trained > untrained + 0.15


def test_relations_at_random_teach_nothing(corpus_paths, corpus, tmp_path):
    """The control: the same graph over videos in another order."""
    order = np.random.default_rng(1).permutation(len(corpus.table))

    def shuffled(graph):
        return RelationGraph.from_edges(
            order[graph.rows()], order[graph.neighbours], graph.weights, nodes=graph.nodes
        )

    relations = shuffled(corpus.relations)
    control = replace(corpus, relations=relations, train_graph=relations.within(corpus.is_train))
    trained, random = ndcg(corpus_paths, control, tmp_path)
    spread = random.std() / np.sqrt(len(random))
    assert trained < random.mean() + 4 * spread

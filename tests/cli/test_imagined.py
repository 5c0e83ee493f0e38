from dataclasses import replace

import numpy as np
import pytest

from experiments.cdml import recipe as cdml
from tests.records.recorded_frames import LAYOUT, VIDEOS, made_videos, write
from vidembed.__main__ import main
from vidembed.cli.imagined import LEAST_VIDEOS, Imagined, known_data
from vidembed.cli.show import show
from vidembed.distributed.mesh import make_mesh
from vidembed.engine.compiled_cost import step_arguments
from vidembed.engine.passes import Lengths
from vidembed.engine.phases import open_feeds
from vidembed.feeds.labelled import LabelledVideos
from vidembed.feeds.negatives import SiblingNegatives
from vidembed.feeds.triplets import Triplets
from vidembed.recipes import annotation, jemc, ridge
from vidembed.tasks.cluster_labels import ClusterLabels


def test_a_batch_holds_as_many_related_pairs_as_among_all_videos():
    recipe = replace(cdml, feed=Triplets(batch_triplets=64))
    data = known_data(recipe, Imagined(videos=8e6, degree=50)).data
    videos, edges = data.corpus.relations.nodes, data.corpus.relations.edges
    assert videos == LEAST_VIDEOS
    assert data.resident["features"]["visual"].shape == (8_000_000, 1024)
    # Two videos at random are related with the same chance.
    assert edges / videos**2 == pytest.approx(50 / 2 / 8e6, rel=0.01)
    # Features take no memory.
    assert all(array.strides == (0, 0) for array in data.corpus.table.features.values())


def test_sparse_relations_are_enough_to_draw_batches_from():
    recipe = replace(cdml, feed=Triplets(batch_triplets=512))
    relations = known_data(recipe, Imagined(videos=278e6, degree=50)).data.corpus.relations
    assert relations.edges == pytest.approx(8 * 512, rel=0.01)
    assert relations.edges / relations.nodes**2 == pytest.approx(50 / 2 / 278e6, rel=0.01)


def test_the_named_corpus_is_taken_with_its_own_classes(clustered_paths, clustered):
    feed = LabelledVideos(batch_videos=16)
    unnamed = replace(cdml, task=ClusterLabels(), feed=feed)
    recipe = replace(unnamed, corpus=clustered_paths)
    known = known_data(recipe, Imagined(classes=5000))
    classes = len(feed.labels(clustered).sizes)
    assert open_feeds(recipe, known.data.corpus)[0].spec.classes == classes
    assert known.data.spec is None
    degree = 2 * clustered.relations.edges / 300
    assert known.host["relations"] == 300 * (8 + 16 * degree / 2)
    assert known_data(unnamed, Imagined(classes=5000)).data.spec.classes == 5000


def test_negatives_from_clusters_have_clusters_to_come_from():
    feed = Triplets(batch_triplets=64, anchors="videos", negatives=SiblingNegatives())
    recipe = replace(cdml, feed=feed)
    arguments = step_arguments(recipe, known_data(recipe, Imagined()).data, make_mesh(recipe.mesh))
    assert arguments.batch["drawn_at"].shape == (3, 64)
    assert arguments.batch["drawn_at"].dtype == np.bool_


@pytest.mark.parametrize("wrong", [{"videos": 0.0}, {"degree": 0.0}, {"classes": 1}])
def test_impossible_sizes_are_refused(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        Imagined(**wrong)


def test_targets_are_not_imagined():
    with pytest.raises(
        ValueError, match=r"a ridge computes its targets .* --corpus.table and --corpus.edges"
    ):
        known_data(ridge.recipe, Imagined())


def test_imagined_data_say_so_first_and_how_to_give_real_ones(clustered_paths):
    recipe = replace(cdml, feed=Triplets(batch_triplets=64))
    source = known_data(recipe, Imagined(videos=8e6)).source
    assert source.startswith("IMAGINED, because no table is given: 8,000,000 videos")
    assert all(f"--{o}" in source for o in ("corpus.table", "corpus.edges", "workdir", "videos"))
    real = known_data(replace(recipe, corpus=clustered_paths), Imagined()).source
    assert "imagined" not in real.lower()


@pytest.mark.parametrize(
    ("preset", "compiles"),
    [
        ("", False),
        *(pytest.param(name, True, marks=pytest.mark.long) for name in ("", "recommended")),
    ],
)
def test_captions_are_imagined_in_the_numbers_of_msrvtt(preset, compiles, capsys):
    """Parameters are counted by hand: words through a GRU, or sentence vectors, for each space."""
    options = ["--preset", preset] if preset else []
    options += [] if compiles else ["--mesh.data", "3"]  # not the eight devices of tests
    assert main(["show", "jemc", *options]) == 0
    text = " ".join(capsys.readouterr().out.split())
    assert "IMAGINED, because no table is given: 10,000 videos with 20 captions each" in text
    steps = "12 passes (3,060 steps)" if preset else "30 passes (30,540 steps)"
    assert f"training {steps}" in text
    assert "IMAGINED: with your data, other steps" in text
    size = 256 if preset else 1024
    words = 11_754 * 300 + (300 + 1024) * 3 * 1024 + 4 * 1024
    sentences = (384 + 1) * 512 + (512 + 1) * 256
    per_space = (2048 + 1) * size + (sentences if preset else words)
    assert f"parameters: {2 * per_space + (2 if preset else 0):,}" in text
    pairs = 512 if preset else 128
    assert f"pairs {pairs}" in text if compiles else f'"batch_pairs": {pairs}' in text
    assert ("not compiled" in text) == (not compiles)


def test_imagined_captions_by_hand():
    known = known_data(jemc.recipe, Imagined(videos=100))
    corpus = known.data.corpus
    assert corpus.report() == {
        "videos": 100, "train_videos": 65, "test_videos": 30, "validation_videos": 5,
        "videos_without_captions": 0, "captions": 2000, "train_captions": 1300, "words": 11_754,
    }  # fmt: skip
    feed = open_feeds(jemc.recipe, corpus)[0]
    assert feed.at(0)["tokens"].shape == (128, 62)
    assert all(array.strides == (0, 0) for array in corpus.table.features.values())


def test_records_are_taken_as_a_table_is(tmp_path):
    write(tmp_path)
    (tmp_path / "captions.csv").write_text(
        "video_id,caption\n" + "".join(f"{name},a dog\n" for name, _, _ in made_videos())
    )
    given = {"records": str(tmp_path / "*.tfrecord"), "layout": LAYOUT}
    captions = str(tmp_path / "captions.csv")
    for recipe in (
        replace(annotation.recipe, corpus=replace(annotation.recipe.corpus, **given)),
        replace(jemc.recipe, corpus=replace(jemc.recipe.corpus, captions=captions, **given)),
    ):
        known = known_data(recipe, Imagined())
        assert known.source.startswith(given["records"])
        assert len(known.data.corpus.table) == VIDEOS


def test_lengths_of_thinned_data_are_not_known(capsys):
    recipe = replace(cdml, feed=Triplets(batch_triplets=64))
    show(recipe, (), Imagined(videos=1000, degree=4), Lengths(passes=3))
    assert "is known only with the data: passes 3" in capsys.readouterr().out

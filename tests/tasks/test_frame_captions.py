"""Videos and captions from frame-level records: the same run as from a table of pooled vectors."""

import csv
import json
from dataclasses import replace

import jax
import numpy as np
import pyarrow.parquet as pq
import pytest

import vidembed
from tests.records.recorded_frames import EMPTY, LAYOUT, MOST, made_videos, pooled_table, write
from tests.tasks.test_closed_form import refused, run
from vidembed.__main__ import main
from vidembed.corpora.captions import CaptionPaths
from vidembed.engine.model import load_model
from vidembed.models.text import Gru
from vidembed.models.video_text import JointSpaces
from vidembed.recipes import jemc
from vidembed.workdir.layout import Workdir

MODEL = JointSpaces(spaces=("visual_max", "visual+audio"), text=Gru(units=4, embedding=3))
SMALL = replace(
    jemc.recipe,
    task=replace(jemc.recipe.task, model=MODEL),
    feed=replace(jemc.recipe.feed, batch_pairs=16),
    checkpoints=replace(jemc.recipe.checkpoints, every_steps=4),
    optimiser=replace(jemc.recipe.optimiser, learning_rate=0.01),
    steps=4,
    log_every=1,
)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """A folder with frames, the same as a table, and captions of the classes of each video."""
    folder = tmp_path_factory.mktemp("data")
    (folder / "frames").mkdir()
    write(folder / "frames")
    pooled_table().write(folder / "table")
    words = ("dog", "cat", "man", "bird", "car")
    with open(folder / "captions.csv", "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["video_id", "caption"])
        for name, labels, _ in made_videos():
            shown = [words[label] for label in labels]
            writer.writerows([(name, " ".join(["a", *shown])), (name, " ".join([*shown, "there"]))])
    return folder


@pytest.fixture(scope="module")
def corpora(data):
    captions = str(data / "captions.csv")
    frames = CaptionPaths(records=str(data / "frames"), layout=LAYOUT, captions=captions)
    return frames.open(), CaptionPaths(table=str(data / "table"), captions=captions).open()


def losses(path):
    lines = Workdir(path).metrics_file.read_text().splitlines()
    return [json.loads(line)["loss"] for line in lines]


@pytest.mark.long
def test_training_is_that_of_the_pooled_table(corpora, tmp_path):
    frames, pooled = corpora
    np.testing.assert_array_equal(frames.is_train, pooled.is_train)
    assert any("videos have no frame" in note for note in frames.notes)
    for name, corpus in (("frames", frames), ("pooled", pooled)):
        run(SMALL, tmp_path / name, corpus)
    first, second = losses(tmp_path / "frames"), losses(tmp_path / "pooled")
    assert len(first) == 4
    np.testing.assert_allclose(first, second, rtol=2e-4)
    rows, vectors = np.arange(9, 19), []
    for name, corpus in (("frames", frames), ("pooled", pooled)):
        model = load_model(Workdir(tmp_path / name), "4")
        vectors.append(
            (model["video"](corpus.table, rows), model["text"](corpus.text_source, rows))
        )
    for ours, expected in zip(*vectors):
        np.testing.assert_allclose(ours, expected, atol=2e-3)
    assert not vectors[0][0][EMPTY - 9].any()


def test_a_batch_has_the_frames_of_its_captions(corpora):
    frames, pooled = corpora
    feed = SMALL.feed.open(frames, seed=3, reads=MODEL.modalities)
    same = SMALL.feed.open(pooled, seed=3, reads=MODEL.modalities)
    assert (feed.config.placement, same.config.placement) == ("host", "device")
    for step in (0, 5):
        batch, rows = feed.at(step), feed.at(step)["rows"]
        for name in ("rows", "tokens", "words"):
            np.testing.assert_array_equal(batch[name], same.at(step)[name])
        assert {n: a.shape for n, a in batch["features"].items()} == {
            "visual": (16, MOST, 7), "audio": (16, MOST, 3),
        }  # fmt: skip
        np.testing.assert_array_equal(batch["lengths"], frames.table.lengths[rows])
        halves = [feed.at(step, (host, 2))["features"]["visual"] for host in (0, 1)]
        np.testing.assert_array_equal(np.concatenate(halves), batch["features"]["visual"])


def test_the_loss_of_frames_is_that_of_their_vectors(corpora):
    """The step pools the frames; a table's vectors were pooled by loops. Attention starts so."""
    results, frames = [], corpora[0]
    attending = replace(SMALL.task, attention=("visual", "audio"))
    for corpus, task in ((frames, SMALL.task), (corpora[1], SMALL.task), (frames, attending)):
        feed = replace(SMALL.feed, placement="host").open(corpus, seed=3, reads=MODEL.modalities)
        known = feed.statistics()

        def loss(batch, task=task, spec=feed.spec, known=known):
            parameters, state = task.init(jax.random.key(0), spec, known)
            key = jax.random.key(1)
            return task.loss_and_measures(parameters, state, {}, batch, key)[0]

        results.append(float(jax.jit(loss)(feed.at(0))))
    assert results[0] == pytest.approx(results[1], rel=1e-4)
    assert results[2] == pytest.approx(results[0], rel=1e-4)


@pytest.mark.long
def test_the_verbs_train_evaluate_and_embed(data, tmp_path, capsys):
    work, captions = str(tmp_path / "run"), str(data / "captions.csv")
    options = [
        *("--workdir", work, "--corpus.records", str(data / "frames")),
        *("--corpus.captions", captions, "--corpus.layout.level", "frame"),
        *("--corpus.layout.modalities", *LAYOUT.modalities, "--corpus.layout.missing", "mask"),
        *("--corpus.layout.max-frames", str(MOST), "--feed.batch-pairs", "16", "--steps", "4"),
        *("--task.model.spaces", *MODEL.spaces, "--task.model.text.units", "4"),
        *("--task.model.text.embedding", "3", "--checkpoints.every-steps", "4"),
        *("--task.attention", "visual"),
    ]
    assert main(["train", "jemc", *options]) == 0
    assert main(["evaluate", "jemc", "--workdir", work]) == 0
    assert "text → video" in capsys.readouterr().out
    out = tmp_path / "vectors.parquet"
    assert main(["embed", work, str(data / "frames"), str(out), "--step", "latest"]) == 0
    vectors = pq.read_table(out).to_pydict()
    assert EMPTY not in [int(name[1:]) for name in vectors["video_id"]]
    texts = vidembed.load(work, "latest").embed_text(["a dog"])
    assert np.shape(vectors["vector"])[1] == texts.shape[1]


@pytest.mark.fault(
    "Captions: a table and records, neither of them, or records kept on the devices",
    "refused before training, naming the option",
)
def test_what_does_not_go_together_is_refused(data, corpora, tmp_path):
    captions = str(data / "captions.csv")
    with pytest.raises(ValueError, match="both a table and records are given"):
        CaptionPaths(table="t", records="r", captions=captions).open()
    with pytest.raises(ValueError, match=r"set --corpus\.table PATH, or --corpus\.records PATH"):
        CaptionPaths(captions=captions).open()
    with pytest.raises(ValueError, match="no captions given"):
        CaptionPaths(records=str(data / "frames")).open()
    on_devices = replace(SMALL, feed=replace(SMALL.feed, placement="device"))
    refused(on_devices, tmp_path / "run", corpora[0], "these records stay on disk")

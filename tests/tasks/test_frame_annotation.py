"""Annotation from frame-level records: the same run as from a table that was pooled on the host."""

import json
from dataclasses import replace

import numpy as np
import pyarrow.parquet as pq
import pytest

import vidembed
from tests.records.recorded_frames import LAYOUT, MOST, VIDEOS, pooled_table, write
from tests.tasks.made_labels import FEED, SMALL
from tests.tasks.test_annotation import probabilities
from tests.tasks.test_closed_form import refused, run
from vidembed.__main__ import main
from vidembed.cli.launch import main as launch
from vidembed.corpora.labelled import LabelledPaths
from vidembed.deploy.exporting import export
from vidembed.deploy.inputs import InputError
from vidembed.engine import model as engine_model
from vidembed.engine.model import load_model
from vidembed.models.blocks import Blocks
from vidembed.records.frame_rows import Frames
from vidembed.records.frames import encode_frames
from vidembed.records.framing import write_records
from vidembed.records.rows import read_rows
from vidembed.workdir.layout import Workdir

READS = ("visual", "visual_top5", "audio_deviation")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("frames")
    write(folder)
    return folder


@pytest.fixture(scope="module")
def frames(folder):
    return LabelledPaths(records=str(folder), layout=LAYOUT).open()


@pytest.fixture(scope="module")
def pooled(tmp_path_factory):
    path = tmp_path_factory.mktemp("pooled") / "table"
    pooled_table().write(path)
    return LabelledPaths(table=str(path)).open()


def recipe_of(modalities, **fields):
    task = replace(SMALL.task, model=Blocks(components=2, modalities=modalities))
    retention = replace(SMALL.checkpoints, every_steps=3)
    return replace(SMALL, **{"task": task, "steps": 6, "checkpoints": retention} | fields)


@pytest.fixture(scope="module")
def trained(frames, tmp_path_factory):
    path = tmp_path_factory.mktemp("annotation") / "run"
    run(recipe_of(READS), path, frames)
    return path


def losses(path):
    lines = Workdir(path).metrics_file.read_text().splitlines()
    return [json.loads(line)["loss"] for line in lines]


def test_training_is_that_of_the_pooled_table(trained, frames, pooled, tmp_path):
    np.testing.assert_array_equal(frames.is_train, pooled.is_train)
    run(recipe_of(READS), tmp_path / "pooled", pooled)
    first, second = losses(trained), losses(tmp_path / "pooled")
    assert len(first) == 6
    assert first[-1] < first[0]
    np.testing.assert_allclose(first, second, rtol=2e-4)
    ours = probabilities(trained, frames.table)
    expected = probabilities(tmp_path / "pooled", pooled.table)
    np.testing.assert_allclose(ours, expected, atol=2e-3)


@pytest.mark.long
def test_eight_devices_give_the_same(trained, frames, tmp_path):
    run(recipe_of(READS), tmp_path / "eight", frames, devices=8)
    eight, one = (probabilities(path, frames.table) for path in (tmp_path / "eight", trained))
    np.testing.assert_allclose(eight, one, atol=2e-4)


@pytest.mark.long
def test_a_resumed_run_is_the_uninterrupted_one(trained, frames, tmp_path):
    run(recipe_of(READS, steps=3), tmp_path / "run", frames)
    run(recipe_of(READS), tmp_path / "run", frames)
    resumed, whole = (probabilities(path, frames.table) for path in (tmp_path / "run", trained))
    np.testing.assert_array_equal(resumed, whole)


def test_batches_are_functions_of_the_step_for_any_workers(frames):
    reads = ("visual_top5", "audio")
    feed = replace(FEED, run_length=4).open(frames, seed=3, reads=reads)
    threaded = replace(feed.config, read_threads=3, prefetch_batches=4)
    threaded = threaded.open(frames, seed=3, reads=reads)
    for step, batch, _ in threaded.batches(2, 9):
        expected = feed.at(step)
        assert {*batch["features"]} == {"visual", "audio"}
        assert batch["features"]["visual"].shape == (32, MOST, 7)
        np.testing.assert_array_equal(batch["lengths"], frames.table.lengths[batch["rows"]])
        for name, array in expected["features"].items():
            np.testing.assert_array_equal(batch["features"][name], array)
        halves = [feed.at(step, (host, 2))["features"]["visual"] for host in (0, 1)]
        np.testing.assert_array_equal(np.concatenate(halves), batch["features"]["visual"])
    assert feed.statistics().inputs.keys() == {*reads}


@pytest.mark.long
def test_the_verbs_train_evaluate_and_annotate(folder, tmp_path, capsys):
    work, out = str(tmp_path / "run"), tmp_path / "out.parquet"
    options = [
        *("--workdir", work, "--corpus.records", str(folder), "--corpus.layout.level", "frame"),
        *("--corpus.layout.modalities", *LAYOUT.modalities, "--corpus.layout.missing", "mask"),
        *("--corpus.layout.max-frames", str(MOST), "--feed.batch-videos", "32", "--steps", "4"),
        *("--task.model.components", "2", "--task.model.modalities", *READS),
        *("--checkpoints.every-steps", "4"),
    ]
    assert launch(arguments=["train", *options], name="annotation") == 0
    assert launch(arguments=["evaluate", "--workdir", work], name="annotation") == 0
    output = capsys.readouterr().out
    assert "step 4  GAP@20, test" in output
    assert "videos have no frame" in output
    assert main(["annotate", work, str(folder), str(out), "--top", "5"]) == 0
    assert "1 videos have neither" in capsys.readouterr().out
    rows = pq.read_table(out).to_pylist()
    assert len(rows) == 5 * (VIDEOS - 1)
    corpus = LabelledPaths(records=str(folder), layout=LAYOUT).open()
    expected = probabilities(work, corpus.table)
    for row in rows[::7]:
        score = expected[int(row["video_id"][1:]), row["class"]]
        np.testing.assert_allclose(row["score"], score, rtol=1e-4)
    part = str(tmp_path / "part.csv")
    assert main(["annotate", work, str(folder), part, "--shard", "2/3", "--top", "1"]) == 0
    assert "1 labels of 1 videos" in capsys.readouterr().out


@pytest.mark.fault(
    "Annotation: a modality that no train video has",
    "refused before anything is computed, naming it",
)
def test_what_the_data_lack_is_named_early(frames, pooled, tmp_path):
    table = replace(frames.table, present={"audio": np.zeros(VIDEOS, bool)})
    lacking = replace(frames, table=table)
    refused(
        recipe_of(("visual", "audio")),
        tmp_path / "a",
        lacking,
        "no train video has 'audio': leave it out",
    )
    refused(recipe_of(("visual_deviations",)), tmp_path / "b", frames, "no 'visual_deviations'")


def test_a_model_of_pooled_vectors_reads_no_frames_beside_them(frames, monkeypatch):
    rows = np.arange(5)
    expected = frames.table.features["visual"][rows]
    monkeypatch.delattr(Frames, "read")
    found = read_rows(frames.table, rows, ("visual",))["features"]
    np.testing.assert_array_equal(found["visual"], expected)


def attending(**fields):
    """A recipe whose model pools visual frames itself."""
    recipe = recipe_of(("visual", "audio"), **fields)
    return replace(recipe, task=replace(recipe.task, attention=("visual",)))


@pytest.fixture(scope="module")
def attended(frames, tmp_path_factory):
    path = tmp_path_factory.mktemp("attention") / "run"
    run(attending(), path, frames)
    return path


def test_attention_starts_as_the_mean_learns_and_annotates(attended, frames, folder, tmp_path):
    run(recipe_of(("visual", "audio")), tmp_path / "mean", frames)
    first, second = losses(tmp_path / "mean"), losses(attended)
    np.testing.assert_allclose(second[0], first[0], rtol=1e-5)
    assert not np.allclose(second[-1], first[-1], rtol=1e-4)
    model = load_model(Workdir(attended), "latest")
    assert np.abs(model.arrays("labels")["parameters"]["attention/visual"]).min() > 1e-3
    expected = model["labels"](frames.table)
    out = tmp_path / "out.parquet"
    arguments = ["annotate", str(attended), str(folder), str(out), "--step", "latest"]
    assert main([*arguments, "--top", "5"]) == 0
    rows = pq.read_table(out).to_pylist()
    assert len(rows) == 5 * (VIDEOS - 1)
    for row in rows[::7]:
        score = expected[int(row["video_id"][1:]), row["class"]]
        np.testing.assert_allclose(row["score"], score, rtol=1e-4)


def test_blocks_of_frames_hold_few_bytes(attended, frames, monkeypatch):
    model = load_model(Workdir(attended), "latest")
    expected, sizes = model["labels"](frames.table), []
    read = frames.table.frames.read
    monkeypatch.setattr(
        Frames, "read", lambda self, rows, names: sizes.append(len(rows)) or read(rows, names)
    )
    monkeypatch.setattr(engine_model, "BLOCK_BYTES", 24 * (MOST * 7 + 4 + 12 + 2))
    np.testing.assert_allclose(model["labels"](frames.table), expected, rtol=2e-5)
    assert sizes == [1, *[24] * -(-VIDEOS // 24)]  # a multiple of the eight devices


@pytest.mark.long
def test_attention_finds_the_frame_that_tells(tmp_path):
    """Of nine frames one, which bears a mark, says the class; the others say another one."""
    rng = np.random.default_rng(0)
    signs = rng.choice([-1, 1], (300, MOST))
    told = rng.integers(0, MOST, 300)
    signs[:, 0] *= -1
    records = []
    for number, (places, marked) in enumerate(zip(signs, told)):
        frames = np.clip(128 + 60 * places[:, None] * np.ones(7), 0, 255).astype(np.uint8)
        frames[:, 0] = np.where(np.arange(MOST) == marked, 255, 0)
        labels = [int(places[marked] > 0)]
        both = {"visual": frames, "audio": np.full((MOST, 3), 128, np.uint8)}
        records.append(encode_frames(f"v{number:03d}", labels, both, format=LAYOUT.frame_format()))
    write_records(tmp_path / "videos.tfrecord", records)
    corpus = LabelledPaths(records=str(tmp_path / "videos.tfrecord"), layout=LAYOUT).open()
    final = {}
    for attention in ((), ("visual",)):
        recipe = recipe_of(("visual",), steps=60)
        recipe = replace(recipe, task=replace(recipe.task, attention=attention))
        run(recipe, tmp_path / f"run{len(attention)}", corpus)
        final[attention] = np.mean(losses(tmp_path / f"run{len(attention)}")[-5:])
    assert final["visual",] < 0.5 * final[()]


@pytest.mark.long
def test_attention_on_eight_devices_and_resumed(attended, frames, tmp_path):
    run(attending(), tmp_path / "eight", frames, devices=8)
    run(attending(steps=3), tmp_path / "run", frames)
    run(attending(), tmp_path / "run", frames)
    one = probabilities(attended, frames.table)
    np.testing.assert_allclose(probabilities(tmp_path / "eight", frames.table), one, atol=2e-4)
    np.testing.assert_array_equal(probabilities(tmp_path / "run", frames.table), one)


@pytest.mark.fault(
    "Annotation: learned weights of frames for data without frames, or a modality that is not read",
    "refused before training, when vectors are given to the run, and on export",
)
def test_attention_needs_frames(attended, frames, pooled, tmp_path):
    refused(attending(), tmp_path / "a", pooled, "--corpus.layout.level frame")
    recipe = recipe_of(("audio",))
    recipe = replace(recipe, task=replace(recipe.task, attention=("visual",)))
    refused(recipe, tmp_path / "b", frames, "names 'visual', but the model reads audio")
    recipe = recipe_of(("visual", "visual_top5"))
    recipe = replace(recipe, task=replace(recipe.task, attention=("visual_top5",)))
    refused(recipe, tmp_path / "c", frames, "'visual_top5', which has no frames .* of visual")
    vectors = {"visual": np.ones((2, 7), np.float32), "audio": np.ones((2, 3), np.float32)}
    run_of_frames = vidembed.load(attended, "latest")
    with pytest.raises(InputError, match="pools the frames of visual itself"):
        run_of_frames.embed(vectors)
    with pytest.raises(ValueError, match="an export takes vectors"):
        export(attended, tmp_path / "export", "latest")


def test_a_split_file_without_validation_videos_is_remarked_on(pooled, tmp_path):
    ids = pooled.table.ids.astype(str)
    for last, remarks in (("test", 1), ("validation", 0)):
        parts = ["train", "test", *["train"] * (len(ids) - 3), last]
        lines = [f"{name},{part}" for name, part in zip(ids, parts)]
        (tmp_path / "split.csv").write_text("\n".join(["id,split", *lines]))
        split = LabelledPaths(split=str(tmp_path / "split.csv")).split_of(pooled.table)
        assert sum("chosen by test videos" in note for note in split.notes) == remarks

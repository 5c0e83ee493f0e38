"""Features of clips, measured, compared, printed and written; or refused."""

import json

import numpy as np
import pytest

from experiments.actions import main
from experiments.colour_histogram import LEVELS, histogram
from tests.media.clips import write_video
from vidembed.corpora.clips import read_clips
from vidembed.evaluators import clip_scores
from vidembed.evaluators.clip_scores import LabelledClips
from vidembed.records.bytecode import Range
from vidembed.records.table import FeatureTable

CLASSES = ("jump", "run", "sit")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """36 clips of 18 sources: a list, tiny videos, and a table of three modalities."""
    folder = tmp_path_factory.mktemp("actions")
    rng = np.random.default_rng(0)
    of_class, lines, visual = rng.normal(size=(3, 8)), ["path,class,group,split"], []
    for source in range(18):
        label = source % 3
        for clip in range(2):
            path = f"{CLASSES[label]}/s{source:02d}c{clip}.mp4"
            part = "test" if source >= 12 else "train"
            lines.append(f"{path},{CLASSES[label]},source{source},{part}")
            visual.append(of_class[label] + 0.3 * rng.normal(size=8))
            (folder / CLASSES[label]).mkdir(exist_ok=True)
    # All clips share three files' content: what is measured is not what they show.
    for number, name in enumerate(CLASSES):
        write_video(folder / f"{name}.mp4", range(1 + 15 * number))  # later frames are lighter
    for line in lines[1:]:
        path = line.split(",")[0]
        (folder / path).write_bytes((folder / f"{path.split('/')[0]}.mp4").read_bytes())
    (folder / "split.csv").write_text("\n".join(lines))
    visual, span = np.array(visual, np.float32), Range(-4, 4)
    has_audio = np.arange(36) != 35
    FeatureTable(
        ids=np.array([line.split("/")[1].split(".")[0] for line in lines[1:]]).astype("S8"),
        features={
            "visual": span.quantise(visual),
            "audio": rng.normal(size=(36, 4)).astype(np.float32),
            "motion": visual[:, :2].copy(),
        },
        present={"audio": has_audio},
        label_offsets=np.zeros(37, np.int64),
        label_values=np.zeros(0, np.int32),
        ranges={"visual": span},
    ).write(folder / "table")
    return folder


def command(folder, work, *options):
    return main(["--clips", str(folder / "split.csv"), "--workdir", str(work), *options])


def test_systems_are_measured_and_compared(folder, tmp_path, capsys):
    options = ["--table", str(folder / "table"), "--videos", str(folder)]
    options += ["--systems", "visual", "audio", "visual+audio", "--pair", "sit", "jump"]
    assert command(folder, tmp_path, *options, "--baseline", "audio") == 0
    result = json.loads((tmp_path / "actions.json").read_text())
    names = ["visual", "audio", "visual+audio", "colour histogram"]
    assert [*result["scores"]] == [*names, "chance"]
    clips = read_clips(folder / "split.csv")
    known = LabelledClips(
        labels=clips.labels, classes=3, groups=clips.groups,
        train=clips.part == "train", test=clips.part == "test",
    )  # fmt: skip
    table = FeatureTable.open(folder / "table")
    expected = clip_scores.retrieval(table.floats("visual"), known)
    assert result["scores"]["visual"]["r@1"]["value"] == expected.values["r@1"].mean()
    for metric in ("r@1", "probe", "same_source"):
        minus = result["minus"]["visual"][metric]["value"]
        values = [result["scores"][name][metric]["value"] for name in ("visual", "audio")]
        assert minus == pytest.approx(values[0] - values[1])
    assert result["lacking"] == {"audio": 1}
    assert set(result["of_pair"]["visual"]) >= {"r@1", "probe"}
    text, shown = (tmp_path / "actions.md").read_text(), capsys.readouterr().out
    assert "sit and jump alone" in text
    assert "1 clips have no audio" in shown


def test_the_control_needs_no_table(folder, tmp_path):
    assert command(folder, tmp_path, "--videos", str(folder)) == 0
    result = json.loads((tmp_path / "actions.json").read_text())
    assert [*result["scores"]] == ["colour histogram", "chance"]
    assert result["scores"]["colour histogram"]["r@1"]["value"] == 1  # three different films
    rows = histogram(str(folder / "jump.mp4"))
    assert rows.shape == (3 * LEVELS,)
    np.testing.assert_allclose(rows.reshape(3, LEVELS).sum(axis=1), 1, rtol=1e-6)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ([], "give --table TABLE, --videos FOLDER"),
        (["--table", "TABLE", "--systems", "smell"], "no modality 'smell': audio, motion, visual"),
        (["--table", "TABLE", "--baseline", "smell"], "no system 'smell' to compare with: audio"),
        (["--table", "TABLE", "--pair", "sit"], "--pair takes two of jump, run, sit"),
        (["--videos", "/nowhere"], "36 of 36 clips are missing: jump/s00c0.mp4"),
    ],
)
def test_what_does_not_fit_is_refused(folder, tmp_path, capsys, options, words):
    options = [str(folder / "table") if word == "TABLE" else word for word in options]
    assert command(folder, tmp_path, *options) == 1
    assert words in capsys.readouterr().err

"""Videos with one label each: Sports-1M's label files and a softmax head, through the verbs."""

from dataclasses import replace

import numpy as np
import pytest

from vidembed.cli.launch import main
from vidembed.corpora.labelled import LabelledPaths
from vidembed.engine.model import load_model
from vidembed.evaluators.annotation import Annotation as AnnotationScores
from vidembed.records.table import FeatureTable
from vidembed.workdir.layout import Workdir

VIDEOS, CLASSES = 200, 12
URL = "https://www.youtube.com/watch?v="


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """(paths, the class of each video): classes show in the features; the last one never occurs."""
    folder, rng = tmp_path_factory.mktemp("single"), np.random.default_rng(0)
    classes = rng.integers(0, CLASSES - 1, VIDEOS)
    features = rng.normal(size=(CLASSES, 6))[classes] + 0.4 * rng.normal(size=(VIDEOS, 6))
    table = FeatureTable(
        ids=np.array([f"-v_{number:03d}" for number in range(VIDEOS)], "S6"),
        features={"visual": np.clip(features * 40 + 128, 0, 255).astype(np.uint8)},
        label_offsets=np.zeros(VIDEOS + 1, np.int64),
        label_values=np.zeros(0, np.int32),
    )
    table.write(folder / "table")
    lines = [f"{URL}{name.decode()} {of}" for name, of in zip(table.ids, classes)]
    (folder / "train_partition.txt").write_text("\n".join([*lines, f"{URL}other 0,3"]) + "\n")
    names = [f"{number},sport {number}" for number in range(CLASSES)]
    (folder / "names.csv").write_text("\n".join(["Index,Name", *names]))
    return LabelledPaths(
        table=str(folder / "table"),
        labels=str(folder / "train_partition.txt"),
        vocabulary=str(folder / "names.csv"),
    ), classes


def test_files_in_the_form_of_sports_1m_are_numbers_of_classes(made, tmp_path):
    paths, classes = made
    corpus = paths.open()
    assert corpus.labels.values.tolist() == classes.tolist()
    assert corpus.labels.names == tuple(f"sport {number}" for number in range(CLASSES))
    assert "1 videos are not in the table, such as other" in " ".join(corpus.notes)
    several = tmp_path / "several.txt"
    lines = [f"{URL}-v_{n:03d}&t=1 {n % 3},7,{n % 3}" for n in range(VIDEOS)]
    several.write_text("\n".join(lines))
    labels = replace(paths, labels=str(several), vocabulary="").open().labels
    assert [labels.of(np.array([n])).values.tolist() for n in range(4)] == [
        [0, 7], [1, 7], [2, 7], [0, 7],
    ]  # fmt: skip
    assert labels.names[7] == "label 7"


@pytest.mark.long
def test_a_softmax_head_through_the_verbs(made, tmp_path):
    paths, classes = made
    run = tmp_path / "run"
    options = [
        *("--workdir", str(run), "--corpus.table", paths.table, "--corpus.labels", paths.labels),
        *("--corpus.vocabulary", paths.vocabulary, "--task.model.modalities", "visual"),
        *("--task.model.components", "0", "--feed.batch-videos", "32", "--steps", "60"),
        *("--optimiser.learning-rate", "0.3", "--checkpoints.every-steps", "60"),
    ]
    head = "task.classifier:softmax-head"
    assert main(arguments=["train", *options, head], name="annotation") == 0
    assert main(arguments=["evaluate", "--workdir", str(run)], name="annotation") == 0
    corpus = paths.open()
    probabilities = load_model(Workdir(run), "latest")["labels"](corpus.table)
    assert probabilities.shape == (VIDEOS, CLASSES)
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, rtol=1e-5)
    test = np.flatnonzero(corpus.is_test)
    ranks = [sum(score >= line[own] for score in line) for line, own in zip(probabilities, classes)]
    hits = {k: np.mean([ranks[row] <= k for row in test]) for k in (1, 5)}
    assert hits[1] > 0.7
    measured = Workdir(run).measurements(AnnotationScores().identity()).read(60)["scores"]
    for k, value in hits.items():
        assert measured[f"test/hit@{k}"]["value"] == pytest.approx(value)


@pytest.mark.fault(
    "Annotation: a label file in Sports-1M's form with a broken line, or a class without a name",
    "refused before training, naming line, label and video",
)
def test_lines_that_do_not_fit_are_refused(made, tmp_path):
    paths, _ = made
    broken = tmp_path / "broken.txt"
    for line in ("", f"{URL}b", f"{URL}b 1,", "b 1", f"{URL}b one"):
        broken.write_text(f"{URL}-v_000 1\n{line}\n{URL}-v_001 1\n")
        with pytest.raises(ValueError, match=r"broken.txt, line 2: must be a URL with v=ID"):
            replace(paths, labels=str(broken)).open()
    broken.write_text(f"{URL}-v_000 1\n{URL}-v_001 {CLASSES}\n")
    with pytest.raises(ValueError, match=r"outside the 12 classes of .* such as 12 of -v_001"):
        replace(paths, labels=str(broken)).open()

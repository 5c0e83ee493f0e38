"""Search videos by words: a run's text encoder on sentences of its own, and its messages."""

import functools

import numpy as np
import pyarrow.csv
import pytest

import vidembed
from tests.media.encoders import write_small_encoder
from vidembed.__main__ import main
from vidembed.corpora.captions import CaptionPaths
from vidembed.corpora.imagined_captions import imagined_captions
from vidembed.engine.model import load_model
from vidembed.workdir.layout import Workdir

SMALL = [
    "--steps", "2", "--checkpoints.every-steps", "2", "--feed.batch-pairs", "8",
    "--corpus.least-count", "1",
]  # fmt: skip


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    folder, made = tmp_path_factory.mktemp("world"), imagined_captions(40, captions=2)
    made.table.write(folder / "table")
    made.write_csv(folder / "captions.csv")
    return folder


@pytest.fixture(scope="module")
def trained(world):
    """Trains on words, or on sentence vectors, once each; returns the work directory."""
    table, captions = str(world / "table"), str(world / "captions.csv")
    data = ["--corpus.table", table, "--corpus.captions", captions]
    options = {
        "words": ["--task.model.text.units", "4", "--task.model.text.embedding", "3"],
        "shared": ["task.model:shared-space", "--task.model.modalities", "object", "audio",
                   "--task.model.text.units", "4", "--task.model.text.embedding", "3"],
        "sentences": ["--corpus.encoder", str(write_small_encoder(world / "encoder")),
                      "task.model.text:sentences", "--task.model.text.hidden", "4",
                      "--task.model.text.size", "4"],
    }  # fmt: skip

    @functools.cache
    def train(name):
        run = str(world / name)
        assert main(["train", "jemc", "--workdir", run, *data, *SMALL, *options[name]]) == 0
        return run

    return train


@pytest.mark.parametrize(
    "name", ["words", *(pytest.param(n, marks=pytest.mark.long) for n in ("shared", "sentences"))]
)
def test_sentences_are_embedded_as_captions_are(trained, world, name):
    encoder = str(world / "encoder") if name == "sentences" else ""
    corpus = CaptionPaths(
        table=str(world / "table"), captions=str(world / "captions.csv"), least_count=1,
        encoder=encoder,
    ).open()  # fmt: skip
    model = load_model(Workdir(trained(name)), "2", outputs=("text",))
    expected = model["text"](corpus.text_source, np.arange(5))
    run = vidembed.load(trained(name), "latest")
    np.testing.assert_allclose(run.embed_text(corpus.captions.texts[:5]), expected, atol=1e-6)
    index = run.index(corpus.table)
    ids = index.search(text=corpus.captions.texts[0], k=3).ids
    every = run.embed(corpus.table) @ expected[0]
    assert every[corpus.table.find(ids.reshape(-1))].tolist() == pytest.approx(
        np.sort(every)[::-1][:3].tolist(), abs=1e-5
    )


@pytest.mark.fault(
    "Captions: a search by words that the run does not know",
    "unknown words are named; a text of none but such is refused, and so is one without words",
)
def test_unknown_words_are_named(trained, world, capsys, caplog):
    run = vidembed.load(trained("words"), "latest")
    index = str(world / "index")
    assert main(["index", trained("words"), str(world / "table"), index, "--step", "latest"]) == 0
    capsys.readouterr()
    search = ["search", index, "--run", trained("words"), "--step", "latest", "-k", "2", "--text"]
    known = pyarrow.csv.read_csv(world / "captions.csv")["caption"][0].as_py()
    assert main([*search, f"{known} zebra"]) == 0
    assert capsys.readouterr().out.count(f"{known} zebra\t") == 2
    assert "unknown words are skipped: zebra" in caplog.text
    assert main([*search, known, "--id", "imagined00003"]) == 0
    shown = capsys.readouterr().out
    assert shown.count(f"{known} + imagined00003\t") == 2
    assert "\timagined00003\t" not in shown
    with pytest.raises(ValueError, match="'zebra' has no word that occurred often enough"):
        run.embed_text(["zebra"])
    with pytest.raises(ValueError, match="has no word to search by"):
        run.embed_text("?!")


@pytest.mark.long
@pytest.mark.fault(
    "Captions: a search by words in a run without an output of text, or with another encoder",
    "refused, with both encoders",
)
def test_runs_that_cannot_embed_this_text_are_refused(trained, workdir, tmp_path):
    with pytest.raises(ValueError, match="does not embed text"):
        vidembed.load(workdir, "latest").embed_text("a")
    other = write_small_encoder(tmp_path / "other")
    about = other / "encoder.json"
    about.write_text(about.read_text().replace('"longest": 4', '"longest": 5'))
    with pytest.raises(ValueError, match="name the folder of the encoder it was trained with"):
        vidembed.load(trained("sentences"), "latest").embed_text("a", encoder=other)

"""Made videos with captions in a folder: equal in both forms, deterministic, read by the recipe."""

import numpy as np
import pytest

from experiments.words_world import PAPER_WIDTHS, main, planted_world
from vidembed.corpora.caption_files import read_captions
from vidembed.corpora.captions import CaptionPaths
from vidembed.corpora.imagined_captions import MADE_UP, imagined_captions
from vidembed.records.table import FeatureTable


def files_of(folder):
    return {p.relative_to(folder): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def test_equal_options_give_equal_files_and_another_seed_others(tmp_path):
    for name, seed in (("a", 3), ("b", 3), ("c", 4)):
        planted_world(tmp_path / name, videos=30, captions=2, ambiguous=0.5, seed=seed)
    a, b, c = (files_of(tmp_path / name) for name in "abc")
    assert a == b
    assert a.keys() == c.keys()
    assert a != c


@pytest.mark.parametrize("form", ["msrvtt", "msvd"])
def test_the_recipe_reads_either_form(tmp_path, form, capsys):
    arguments = ["--folder", str(tmp_path), "--videos", "60", "--captions", "3", "--form", form]
    assert main([*arguments, "--silent", "0.3"]) == 0
    said = capsys.readouterr().out
    assert MADE_UP in said
    assert "180 captions" in said
    table = FeatureTable.open(tmp_path / "table")
    assert table.manifest["source"]["made_up"] == MADE_UP
    split = "" if form == "msrvtt" else str(tmp_path / "split.csv")
    file = tmp_path / ("captions.json" if form == "msrvtt" else "captions.csv")

    paths = {"table": str(tmp_path / "table"), "captions": str(file), "split": split}
    corpus = CaptionPaths(**paths).open()
    world = imagined_captions(60, captions=3, silent=0.3, clips=form == "msvd")
    assert list(read_captions(file).texts) == [t for texts in world.texts for t in texts]
    np.testing.assert_array_equal(corpus.is_train, [p == "train" for p in world.parts])
    np.testing.assert_array_equal(corpus.is_validation, [p == "validation" for p in world.parts])
    assert corpus.report()["videos_without_captions"] == 0
    assert f"{60 - table.has('audio').sum()} of them without audio" in said


def test_features_as_wide_as_the_papers(tmp_path):
    world = planted_world(tmp_path, videos=4, captions=1, paper_widths=True)
    assert FeatureTable.open(tmp_path / "table").widths == world.table.widths == PAPER_WIDTHS


def test_numbers_out_of_range_and_other_ids_are_refused(tmp_path, capsys):
    assert main(["--folder", str(tmp_path), "--ambiguous", "1.5"]) == 1
    assert "ambiguous 1.5" in capsys.readouterr().err
    with pytest.raises(ValueError, match="clips=True"):
        imagined_captions(4).write_msvd(tmp_path / "captions.csv")

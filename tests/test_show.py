import re

import pytest
from vidembed.scale import Scale

from vidembed.corpus import CorpusPaths
from vidembed.feeds.labelled import LabelledVideos
from vidembed.feeds.triplets import Triplets
from vidembed.recipe import Recipe
from vidembed.show import costs, show
from vidembed.tasks.cluster_labels import ClusterLabels


def columns(line):
    return re.split(r"\s{2,}", line.strip())


def test_chips_are_columns_and_every_sum_is_shown(capsys):
    show(Recipe(feed=Triplets(batch_triplets=7168)), Scale(chips=(1, 64), videos=278e6))
    text = capsys.readouterr().out
    assert "1 × v5e" in text
    assert "64 × v5e" in text
    assert "estimates from data-sheet rates at 50% of the products' peak, not measurements" in text
    rows = {name: values for name, *values in map(columns, text.splitlines())}
    # 278 million videos of 1,152 bytes, whole and a 64th; 6,664,512 float32 parameters, summed.
    assert rows["table's share"] == ["320.3 GB", "5.0 GB"]
    assert "1 × v5e: table and step do not fit on the chips; --feed.placement host" in text
    sent = f"{2 * 6_664_512 * 4 * 63 / 64 / 1e6:.1f} MB"
    assert rows["gradient, summed"] == ["0 bytes", sent]


def test_the_table_of_the_recipe_is_counted(corpus_paths, corpus):
    lines = costs(Recipe(corpus=corpus_paths, feed=Triplets(batch_triplets=64)))
    assert f"{len(corpus.table)} videos" in lines["corpus"]
    # 300 rows padded to 304 over eight devices, 12 bytes each.
    assert lines["table a device"] == "456 bytes"
    hosted = Recipe(corpus=corpus_paths, feed=Triplets(batch_triplets=64, placement="host"))
    assert costs(hosted)["batch: features"] == "2.3 kB"


def test_the_classes_that_are_counted_are_said():
    recipe = Recipe(task=ClusterLabels(), feed=LabelledVideos())
    lines = costs(recipe, Scale(classes=5000))
    assert lines["classes a step"].endswith("(21,600 × 1,024 of 5,120 class vectors × 256)")


def test_a_refusal_comes_alone(capsys):
    with pytest.raises(ValueError, match="3"):
        show(Recipe(feed=Triplets(batch_triplets=7168)), Scale(chips=(3,)))
    with pytest.raises(ValueError, match="nowhere"):
        show(Recipe(corpus=CorpusPaths(table="nowhere")))
    assert capsys.readouterr().out == ""


def test_a_missing_table_is_named(tmp_path):
    with pytest.raises(ValueError, match="nowhere"):
        costs(Recipe(corpus=CorpusPaths(table=str(tmp_path / "nowhere"))))

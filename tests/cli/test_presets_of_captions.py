"""Presets of the recipe of videos and captions: the options that they mean."""

import pytest

from tests.cli.test_arguments import ended, given
from vidembed.engine.typed_json import to_json
from vidembed.models.shared_space import SharedSpace
from vidembed.models.text import Gru, Sentences
from vidembed.recipes import jemc


def test_each_preset_is_what_it_says(monkeypatch):
    def recipe_of(preset, *more):
        words = ["--preset", preset, "--workdir", "w", *more]
        return given("train jemc", *words, monkeypatch=monkeypatch).recipe

    paper, code = recipe_of("paper"), recipe_of("published-code")
    rates = {pass_: [recipe.optimiser.rate(pass_ * jemc.PASS) for recipe in (paper, code)]
             for pass_ in (0, 10, 15, 29)}  # fmt: skip
    assert rates[0] == pytest.approx([0.002, 0.0002])
    assert rates[10] == pytest.approx([0.002, 0.0001])
    assert rates[15] == pytest.approx([0.0002, 0.0001])
    assert rates[29] == pytest.approx([0.0002, 0.00005])
    for recipe in (paper, code):
        assert recipe.steps == 30_540
        assert recipe.feed.batch_pairs == 128
        assert recipe.optimiser.clip_norm == 2
        assert recipe.task.loss == jemc.WeightedRanking(margin=0.2, weight=1.0)
        assert recipe.task.model.text == Gru()
        assert (recipe.task.reduce, recipe.task.mask_same) == ("sum", False)
    recommended = recipe_of("recommended", "--steps", "9")
    assert recommended.steps == 9
    assert recommended.task.loss == jemc.InfoNCE(temperature=0.07)
    assert recommended.task.model.text == Sentences(hidden=(512,), size=256, dropout=0.2)
    assert recommended.task.model.feature_dropout == 0.5
    shared = recipe_of(
        "recommended", "task.model:shared-space", "--task.model.modalities", "visual", "audio",
        "--task.model.pairs", "visual~audio",
    )  # fmt: skip
    text = recommended.task.model.text
    asked = SharedSpace(
        modalities=("visual", "audio"), pairs=("visual~audio",), text=text, feature_dropout=0.5
    )
    assert to_json(shared.task.model) == to_json(asked)
    # Without a preset: as the code, but a video's other captions are no negatives.
    assert jemc.recipe.task.mask_same
    assert jemc.recipe.steps == code.steps
    assert [jemc.recipe.optimiser.rate(p * jemc.PASS) for p in rates] == [
        r[1] for r in rates.values()
    ]


def test_a_wrong_preset_names_those_of_the_recipe(capsys):
    code, text = ended(capsys, "train", "jemc", "--workdir", "w", "--preset", "laptop")
    assert code == 2
    assert "'laptop' is not one of paper, published-code, recommended" in text

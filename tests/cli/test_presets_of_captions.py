"""Presets of the recipe of videos and captions: the options that they mean."""

import pytest

from experiments.words_world import planted_world
from tests.cli.test_arguments import ended, given
from vidembed.__main__ import main
from vidembed.cli import verbs
from vidembed.cli.imagined_text import imagined_text
from vidembed.engine.typed_json import to_json
from vidembed.models.shared_space import SharedSpace
from vidembed.models.text import Gru, Sentences
from vidembed.recipes import jemc

CORPUS = imagined_text(jemc.recipe.corpus, jemc.recipe.task.reads, videos=10_000, sentences=True)


def on_msrvtt(command):
    """The recipe of a command with its lengths in steps, on as many captions as MSR-VTT has."""
    recipe, words = command.lengths.in_steps(command.recipe, CORPUS)
    if command.lengths.given:
        assert "130,260 captions of train videos" in words
    return recipe


def test_each_preset_is_what_it_says(monkeypatch):
    def recipe_of(*words):
        return on_msrvtt(given("train jemc", "--workdir", "w", *words, monkeypatch=monkeypatch))

    paper, code = recipe_of("--preset", "paper"), recipe_of("--preset", "published-code")
    rates = {pass_: [recipe.optimiser.rate(pass_ * jemc.PASS) for recipe in (paper, code)]
             for pass_ in (0, 10, 15, 29)}  # fmt: skip
    assert rates[0] == pytest.approx([0.002, 0.0002])
    assert rates[10] == pytest.approx([0.002, 0.0001])
    assert rates[15] == pytest.approx([0.0002, 0.0001])
    assert rates[29] == pytest.approx([0.0002, 0.00005])
    for recipe in (paper, code):
        assert (recipe.steps, recipe.checkpoints.every_steps) == (30_540, 1_018)
        assert recipe.feed.batch_pairs == 128
        assert recipe.optimiser.clip_norm == 2
        assert recipe.task.loss == jemc.WeightedRanking(margin=0.2, weight=1.0)
        assert recipe.task.model.text == Gru()
        assert (recipe.task.reduce, recipe.task.mask_same) == ("sum", False)
    recommended = recipe_of("--preset", "recommended")
    assert recommended.steps == 12 * 255  # of 512 pairs
    assert recommended.optimiser.schedule == "cosine"
    assert recommended.task.loss == jemc.InfoNCE(temperature=0.07)
    assert recommended.task.model.text == Sentences(hidden=(512,), size=256, dropout=0.2)
    assert recommended.task.model.feature_dropout == 0.5
    shared = recipe_of(
        "--preset", "recommended", "task.model:shared-space",
        "--task.model.modalities", "object", "audio", "--task.model.pairs", "object~audio",
    )  # fmt: skip
    text = recommended.task.model.text
    asked = SharedSpace(
        modalities=("object", "audio"), pairs=("object~audio",), text=text, feature_dropout=0.5
    )
    assert to_json(shared.task.model) == to_json(asked)
    # Without a preset: as the code, but a video's other captions are no negatives.
    assert recipe_of().to_json() == jemc.recipe.to_json()
    assert jemc.recipe.task.mask_same
    assert [jemc.recipe.optimiser.rate(p * jemc.PASS) for p in rates] == [
        r[1] for r in rates.values()
    ]


def test_steps_that_are_given_replace_passes(monkeypatch, capsys):
    def command(*words):
        return given("train jemc", "--workdir", "w", *words, monkeypatch=monkeypatch)

    for preset in ([], ["--preset", "paper"], ["--preset", "recommended"]):
        recipe = on_msrvtt(command(*preset, "--steps", "9", "--checkpoints.every_steps=3"))
        assert (recipe.steps, recipe.checkpoints.every_steps) == (9, 3)
    assert on_msrvtt(command("--preset", "paper", "--steps", "9")).optimiser.decay_steps == 15_270
    assert on_msrvtt(command("--preset", "recommended", "--passes", "0.5")).steps == 128
    assert on_msrvtt(command("--optimiser.decay-steps", "7")).optimiser.decay_steps == 7
    both = ["train", "jemc", "--workdir", "w", "--passes", "3", "--steps", "9"]
    assert main(both) == 1
    assert "--passes and --steps say the same: give one of them" in capsys.readouterr().err
    # Recipes that state steps have no lengths in passes.
    other = given("train cdml", "--workdir", "w", monkeypatch=monkeypatch)
    assert not other.lengths.given


def test_training_gets_steps_of_its_own_data(tmp_path, monkeypatch, capsys):
    world = planted_world(tmp_path, videos=60, captions=3, seed=1)
    seen = []

    def train(recipe, workdir, **parts):
        seen.append(recipe)
        return recipe.steps

    monkeypatch.setattr(verbs, "train", train)
    words = ["--corpus.table", str(tmp_path / "table"), "--corpus.captions",
             str(tmp_path / "captions.json"), "--feed.batch-pairs", "10", "--workdir",
             str(tmp_path / "run")]  # fmt: skip
    assert main(["train", "jemc", *words, "--passes", "2", "--evaluate-every", "1018"]) == 0
    train_captions = 3 * list(world.parts).count("train")
    each = -(-train_captions // 10)
    assert f"a pass over {train_captions} captions of train videos is {each} steps" in (
        " ".join(capsys.readouterr().out.split())
    )
    [recipe] = seen
    assert (recipe.steps, recipe.checkpoints.every_steps) == (2 * each, each)
    assert (recipe.optimiser.decay_steps, recipe.evaluate_every) == (10 * each, each)


def test_a_wrong_preset_names_those_of_the_recipe(capsys):
    code, text = ended(capsys, "train", "jemc", "--workdir", "w", "--preset", "laptop")
    assert code == 2
    assert "'laptop' is not one of paper, published-code, recommended" in text

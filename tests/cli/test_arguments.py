"""Help, mistakes, parts and presets of every verb, without running any."""

import re
from dataclasses import replace
from importlib import metadata
from itertools import chain, permutations

import pytest

from experiments import quickstart
from vidembed.__main__ import DATA, RUNS, main
from vidembed.cli import command_line
from vidembed.cli.arguments import Arguments, Mistake
from vidembed.cli.help_text import LINES
from vidembed.cli.options import Options
from vidembed.feeds.labelled import LabelledVideos
from vidembed.losses.triplet import Log
from vidembed.mining.miners import Hardest
from vidembed.models.fusion import EarlyFusion
from vidembed.recipes import linear, ridge

SYSTEMS = ["cdml", "linear", "ridge", "gcml gcml", "gcml gcl", "gcml cdml"]
COMPOSITES = [f"{verb} composite" for verb in ("evaluate", "report", "show")]
VERBS = [
    *DATA,
    *(f"{verb} cdml" for verb in RUNS),
    *(f"train {each}" for each in SYSTEMS[1:5]),
    *COMPOSITES,
]


def command_of(words, monkeypatch):
    """(command, preset) that the words of a verb are parsed for."""
    seen = []

    def parse(command, arguments, *, prog, preset=()):
        seen.append((command, preset))
        raise SystemExit(0)

    with monkeypatch.context() as patch:
        patch.setattr(command_line, "parse_one", parse)
        with pytest.raises(SystemExit):
            main(words.split())
    return seen[0]


def given(words, *arguments, monkeypatch):
    """The command that a verb makes of these arguments, by tyro."""
    command, preset = command_of(" ".join([words, *arguments]), monkeypatch)
    return command_line.parse_one(command, arguments, prog="test", preset=preset)


def ended(capsys, *arguments):
    with pytest.raises(SystemExit) as end:
        main(arguments)
    printed = capsys.readouterr()
    return end.value.code, printed.out + printed.err


@pytest.mark.parametrize("words", VERBS)
def test_each_verb_has_help_that_fits_describes_all_and_corrects(words, monkeypatch, capsys):
    monkeypatch.setenv("COLUMNS", "80")
    code, text = ended(capsys, *words.split(), "--help")
    assert code == 0
    assert len(text.splitlines()) <= LINES
    assert max(map(len, text.splitlines())) <= 80
    command, _ = command_of(words, monkeypatch)
    arguments = Arguments(command, [])
    every = Options(command)
    assert [option.name for option in every.options if not option.about] == []
    # A letter is left out.
    names = sorted({o.name for o in every.options if not o.positional and len(o.name) > 5})
    for name in names[::9]:
        typo = f"{name[:-3]}{name[-2:]}"
        [mistake] = arguments._taken_apart([typo]).mistakes
        assert mistake == f"there is no option {typo}; did you mean {name}?"
    code, text = ended(capsys, *words.split(), typo)
    assert code == 2
    assert text.splitlines() == [
        f"error: {mistake}",
        f"python -m vidembed {words} --help lists the options",
    ]


@pytest.mark.parametrize("words", ["search", "evaluate gcml gcl"])
def test_options_are_those_of_tyro(words, monkeypatch, capsys):
    """What is read from the annotations here is what tyro reads there."""
    command, _ = command_of(words, monkeypatch)
    options = Options(command, {})
    with pytest.raises(SystemExit):
        command_line._built(command, ["--help"], [], known=(), prog="test")
    text = capsys.readouterr().out
    names = {option.name for option in options.options if not option.positional}
    assert set(
        re.findall(r"^[│ ] (?:-\w(?: \w+)?, )*(--[a-z][\w.-]*)", text, re.MULTILINE)
    ) == names | {"--help"}
    parts = {switch.word(choice) for switch in options.switches for choice in switch.choices}
    assert set(re.findall(r"^[│ ] +\W ([a-z.]+:[a-z-]+) +│?$", text, re.MULTILINE)) <= parts


def test_all_of_the_help_and_the_help_of_other_parts(capsys):
    code, text = ended(capsys, "train", "cdml", "--help-all")
    assert code == 0
    assert len(text.splitlines()) > LINES
    assert "--optimiser.rule.b1 FLOAT" in text
    code, text = ended(capsys, "train", "cdml", "task.miner:hardest", "--help")
    assert code == 0
    assert "task.miner:      [hardest], semi-hard, semi-hard-random, no-mining" in text
    code, text = ended(capsys, "show", "cdml", "--help-all", "optimiser.rule:sgd")
    assert "--optimiser.rule.momentum FLOAT" in text
    assert "--optimiser.rule.b1" not in text


def test_parts_are_switched_in_any_order(monkeypatch):
    words = [
        ["--task.loss.margin", "0.3"],
        ["task.loss:log"],
        ["--evaluator.ks", "10", "100"],
        ["task.miner:hardest"],
        ["task.model:early-fusion", "--task.model.layers.hidden", "8", "4"],
    ]
    command, _ = command_of("train cdml", monkeypatch)
    orders = [
        Arguments(command, ["--workdir", "w", *chain(*order)]).ordered()
        for order in list(permutations(words))[::17]
    ]
    assert all(sorted(order) == sorted(orders[0]) for order in orders)
    chosen = command_line._built(command, orders[-1], [], known=(), prog="test")
    task = chosen.recipe.task
    assert isinstance(task.model, EarlyFusion)
    assert task.model.layers.hidden == (8, 4)
    assert isinstance(task.miner, Hardest)
    assert isinstance(task.loss, Log)
    assert task.loss.margin == 0.3
    assert chosen.evaluator.ks == (10, 100)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("train cdml --learning-rate 1", "no option --learning-rate; did you mean --optimiser.l"),
        ("train cdml --workdir w task.miner:hardst", "did you mean task.miner:hardest?"),
        ("train cdml --workdir w task.minr:hardest", "did you mean task.miner:hardest?"),
        ("train cdml --workdir w --steps 3 tsk.miner:hardest", "did you mean task.miner:hardest?"),
        ("train cdml task.miner:hardest task.miner:semi-hard", "exclude each other: give one"),
        ("train cdml --workdir w --task.loss.samples 3", "goes with task:cluster-labels: add that"),
        ("train cdml --workdir w task.loss:full-softmax", "goes with task:cluster-labels: add"),
        ("train cdml --workdir w --follow", "there is no option --follow"),
        ("train cdml --steps 3", "--workdir must be given"),
        ("train cdml --workdir", "--workdir needs a value"),
        ("train cdml --workdir w --steps 1.5", "--steps: '1.5' is not a whole number"),
        ("train cdml --workdir w --seed -1", "--seed -1 must lie in [0, 2^32)"),
        ("train cdml --workdir w --feed.anchors edge", "one of edges, videos; did you mean edges"),
        (
            "train cdml --workdir w --optimiser.learning-rate 0",
            "--optimiser.learning-rate 0.0 must",
        ),
        ("train cdml --workdir w --preset labtop", "'labtop' is not one of laptop; did you mean"),
        ("evaluate cdml --workdir w yes", "unexpected argument 'yes'"),
        # Before it waits for the run.
        ("evaluate cdml --workdir w --follow --setp 3", "--setp; did you mean --step?"),
        ("train --workdir w", "a recipe must come first: one of cdml, linear, ridge, gcml"),
        ("train gcml --workdir w", "a system must come first: one of gcml, gcl, cdml"),
        ("import --modalites x", "there is no option --modalites; did you mean --modalities?"),
        ("import records", "TABLE must be given"),
        ("import a b c", "unexpected argument 'c'"),
        ("search index --k ten", "--k: 'ten' is not a whole number"),
    ],
)
def test_a_mistake_is_led_by_its_reason(words, message, capsys):
    code, text = ended(capsys, *words.split())
    assert code == 2
    first = text.splitlines()[0]
    assert first.startswith("error: ")
    assert message in first


def test_values_that_look_like_something_else(monkeypatch):
    [importing, _], [search, _] = (command_of(w, monkeypatch) for w in ("import", "search"))
    assert given("search", "i", "--id=-x", "y", "-k5", monkeypatch=monkeypatch).keywords["id"] == (
        "-x", "y",
    )  # fmt: skip
    assert Arguments(search, ["-k=5", "--", "-i"]).ordered() == ["-k=5", "--", "-i"]
    assert Arguments(search, ["i", "--id", "="]).ordered() == ["i", "--id", "="]
    modalities = ["--modalities", "visual:clip:8", "--", "a", "b"]
    assert Arguments(importing, modalities).ordered() == modalities
    assert Arguments(importing, ["a", "--max_rounding", ".1", "b"]).ordered() == [
        "a", "b", "--max-rounding", ".1",
    ]  # fmt: skip
    with pytest.raises(Mistake, match="is not a number"):
        Arguments(importing, ["a", "b", "--max-rounding", "x"]).ordered()


@pytest.mark.parametrize("system", SYSTEMS[:5])
def test_the_preset_is_the_size_of_a_laptop(system, monkeypatch):
    words = ["--preset", "laptop", "--workdir", "w"]
    laptop = given(f"train {system}", *words, monkeypatch=monkeypatch).recipe
    if closed := {"linear": linear, "ridge": ridge}.get(system):
        assert laptop.to_json() == closed.recipe.to_json()
        return
    assert laptop.feed.examples == (1536 if system == "gcml gcl" else 512)
    assert laptop.task.model.layers == quickstart.LAYERS
    assert laptop.optimiser.learning_rate == 0.001
    assert laptop.steps <= 300


def test_what_is_given_wins_over_a_preset(monkeypatch):
    words = ["--preset", "laptop"]
    laptop = given("show cdml", *words, monkeypatch=monkeypatch).recipe
    assert laptop.to_json() == replace(quickstart.recipe, evaluate_every=0).to_json()
    more = ["--steps", "9", "task.model:early-fusion"]
    other = given("show cdml", *words, *more, monkeypatch=monkeypatch).recipe
    assert other.steps == 9
    # Of another part the sizes count that it has, too.
    assert isinstance(other.task.model, EarlyFusion)
    assert other.task.model.layers == laptop.task.model.layers


def test_a_preset_leaves_out_what_the_parts_lack(monkeypatch):
    parts = ["task:cluster-labels", "feed:labelled-videos"]
    words = ["--preset=laptop", "--workdir", "w", *parts]
    recipe = given("train cdml", *words, monkeypatch=monkeypatch).recipe
    assert recipe.feed == LabelledVideos()
    assert recipe.task.model.layers.hidden == (1024,)


def test_the_version_names_what_a_report_needs(capsys, monkeypatch):
    known = {"commit": "1a2b3c4d5e6f77", "tree": "changed"}
    monkeypatch.setattr("vidembed.cli.version.commit_of", lambda _: known)
    assert main(["--version"]) == 0
    text = capsys.readouterr().out
    versions = f"{metadata.version('vidembed')} (commit 1a2b3c4d5e6f, with changes)"
    assert text.startswith(f"vidembed {versions}, jax {metadata.version('jax')}, Python 3.")

"""Every `vidembed ...` command line of the documents has a verb and options that exist.

Nothing is run: the words are checked against the options of the command, and values against types.
"""

import re
import shlex
from pathlib import Path

import pytest

from vidembed.__main__ import DATA, RUNS, main
from vidembed.cli import command_line, composite_verbs, launch
from vidembed.cli.arguments import Arguments

ROOT = Path(__file__).resolve().parents[1]
DOCUMENTS = ("README.md", "GUIDE.md", "CONTRIBUTING.md", "experiments/README.md")
PROGRAMS = ("vidembed", ".venv/bin/vidembed")
COMMAND = re.compile(rf"(^|[ /])vidembed ({'|'.join([*DATA, *RUNS])})\b")
ENDS = {"|", "||", "&&", ";", ">", "&", "(", ")"}


def commands(text):
    """The words after `vidembed`, of every command in blocks and in backquotes."""
    blocks = re.findall(r"^```\w*\n(.*?)^```", text, re.DOTALL | re.MULTILINE)
    lines = [line for block in blocks for line in block.replace("\\\n", " ").split("\n")]
    lines = [re.sub("(^| )#.*", "", line) for line in lines]
    joined, open_quote = [""], False
    for line in lines:  # a quoted command may take several lines
        joined = [*joined[:-1], f"{joined[-1]} {line}"] if open_quote else [*joined, line]
        open_quote = joined[-1].count('"') % 2 == 1
    prose = re.sub(r"^```.*?^```", "", text, flags=re.DOTALL | re.MULTILINE)
    quoted = [part for line in prose.split("\n") for part in line.split("`")[1::2]]
    for line in [*joined, *quoted]:
        if COMMAND.search(line):
            yield from in_line(line)


def in_line(line):
    words = shlex.shlex(line, posix=True, punctuation_chars=True)
    words.whitespace_split = True
    given = list(words)
    for place, word in enumerate(given):
        if " vidembed " in word or "/vidembed " in word:  # --command="cd ... && vidembed ..."
            yield from in_line(word.partition("=")[2] if word.startswith("--") else word)
        if word in PROGRAMS:
            rest = given[place + 1 :]
            end = next((n for n, each in enumerate(rest) if each in ENDS), len(rest))
            typed = [w for n, w in enumerate(rest[:end]) if w != "..." or _is_value(rest, n)]
            # A work directory in a bucket would be looked into.
            yield [word.replace("gs://", "") for word in typed]


def _is_value(words, place):
    return place > 0 and words[place - 1].startswith("--")


@pytest.fixture
def mistakes(monkeypatch, tmp_path):
    """A function: the mistakes in the words of a command, which then ends unparsed."""
    collected = []

    def checked(command, arguments, *, prog, preset=()):
        given = Arguments(command, arguments, preset=preset)
        collected.extend([*given.words.mistakes, *given._misplaced()])
        raise SystemExit(0)

    known = composite_verbs._known
    monkeypatch.chdir(tmp_path)  # no work directory that a document names exists here
    monkeypatch.setattr(command_line, "parse_one", checked)
    monkeypatch.setattr(launch, "await_run", lambda *_, **__: None)
    monkeypatch.setattr(composite_verbs, "_known", lambda place: known(None))

    def mistakes_of(words):
        collected.clear()
        with pytest.raises(SystemExit) as end:
            main(words)
        assert end.value.code == 0, words
        return list(collected)

    return mistakes_of


@pytest.mark.parametrize("name", DOCUMENTS)
def test_the_commands_of_the_documents_parse(name, mistakes):
    verbs = {*DATA, *RUNS}
    lines = [words for words in commands((ROOT / name).read_text()) if words]
    lines = [words for words in lines if words[0] in verbs and "SYSTEM" not in words]
    assert len(lines) > {"README.md": 20, "GUIDE.md": 40}.get(name, 0)
    assert {shlex.join(words): wrong for words in lines if (wrong := mistakes(words))} == {}


def test_a_wrong_option_verb_or_value_is_seen(mistakes):
    assert mistakes(["train", "cdml", "--workdir", "w", "--corpus.tabel", "t"])
    assert mistakes(["show", "cdml", "--videos", "many"])
    assert mistakes(["report", "composite", "--workdir", "w", "--titel", "t"])
    assert mistakes(["train", "cdml", "--feed.level", "1"])  # of another part
    assert not mistakes(["train", "cdml", "task:cluster-labels", "feed:labelled-videos"])
    text = (
        "x\n```\n# vidembed nothing\na | vidembed index --force > f\n```\nsee `vidembed show ...`"
    )
    assert list(commands(text)) == [["index", "--force"], ["show"]]

"""The words of a command line, checked against a command's options and put in order for tyro.

Parts may be switched anywhere among the options, and a list option ends at a switch. A mistake is
named with the nearest thing that exists, before tyro sees the words.
"""

import difflib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from vidembed.cli.annotations import choices_of, without_none
from vidembed.cli.help_text import HELP_ALL
from vidembed.cli.options import Chosen, Option, Options, Switch

HELP = ("-h", "--help")
END_OF_OPTIONS = "--"


class Mistake(ValueError):  # noqa: N818 - of whoever typed, not of the program
    """What is wrong with the command line, and what was probably meant."""


@dataclass
class Words:
    """A command line, taken apart. Nothing is said of what is wrong before `Arguments.ordered`."""

    switches: dict[str, str] = field(default_factory=dict)
    """Place → word, as task.miner → hardest."""
    options: dict[str, list[str]] = field(default_factory=dict)
    """Option as it is typed, without "=" → the words that follow it; given twice, the last ones."""
    positionals: list[str] = field(default_factory=list)
    mistakes: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    """What is no mistake, and might not be meant."""
    ended: bool = False
    """Whether -- stood before the positionals."""


class Arguments:
    """The words that are given to one command."""

    def __init__(self, command: Any, arguments: Sequence[str], *, preset: Sequence[str] = ()):
        """preset: options and switches that count where they exist and are not given."""
        self._command, self._every = command, Options(command)
        self._choices: dict[str, list[Switch]] = {}
        for switch in self._every.switches:
            self._choices.setdefault(switch.place, []).append(switch)
        self.words = self._taken_apart(arguments)
        by_preset = self._taken_apart(preset)
        self.words.switches = by_preset.switches | self.words.switches
        self.options = Options(command, self.words.switches)
        given = {self._name(name) for name in self.words.options}
        for name, values in by_preset.options.items():
            if name in self.options.by_name and self._name(name) not in given:
                self.words.options[name] = values

    def ordered(self) -> list[str]:
        """The words as tyro understands them: switches, positionals, options. Raises Mistake."""
        words, known = self.words, self.options
        mistakes = [*words.mistakes, *self._misplaced()]
        if mistakes:
            raise Mistake(mistakes[0])
        if lacking := self._lacking():
            raise Mistake(f"{' and '.join(lacking)} must be given")
        typed = [switch.word(switch.now) for switch in known.switches if switch.now]
        options = [word for name, values in words.options.items() for word in _joined(name, values)]
        if words.ended:
            return [*typed, *options, END_OF_OPTIONS, *words.positionals]
        return [*typed, *words.positionals, *options]

    def _name(self, typed: str) -> str:
        """The option that is meant by a name, an alias or a negation."""
        option = self._every.by_name.get(typed)
        return option.name if option else typed

    def _taken_apart(self, arguments: Sequence[str]) -> Words:
        words, rest = Words(), list(arguments)
        while rest:
            word = rest.pop(0)
            if word == END_OF_OPTIONS:
                words.ended = True
                words.positionals += rest
                break
            if word in HELP or word == HELP_ALL:
                continue
            if _is_option(word):
                self._take_option(word, rest, words)
            elif self._is_switch(word):
                self._take_switch(word, words)
            else:
                words.positionals.append(word)
        return words

    def _take_option(self, word: str, rest: list[str], words: Words) -> None:
        typed, equals, value = word.partition("=")
        name = typed.replace("_", "-") if typed.startswith("--") else typed
        if name[:2] in self._every.by_name and len(name) > 2 and not equals:  # -k10
            name, equals, value = name[:2], "=", name[2:]
        option = self._every.by_name.get(name)
        if option is None:
            words.mistakes.append(f"there is no option {typed}{self._nearest(name)}")
            # Its values would be taken for something else.
            while rest and not _is_option(rest[0]) and not self._is_switch(rest[0]):
                rest.pop(0)
            return
        most = option.values
        for earlier in [other for other in words.options if self._name(other) == option.name]:
            del words.options[earlier]
            if most is None:
                words.notes.append(f"{typed} is given more than once: only the last counts")
        values = [value] if equals else []
        while rest and (most is None or len(values) < most):
            # A word that is to be the only value is never a switch.
            if (
                rest[0] == END_OF_OPTIONS
                or _is_option(rest[0])
                or (most is None and self._is_switch(rest[0]))
            ):
                break
            values.append(rest.pop(0))
        words.options[name] = ["=", value, *values[1:]] if equals else values
        if wrong := _wrong_values(option, name, values):
            words.mistakes.append(wrong)

    def _take_switch(self, word: str, words: Words) -> None:
        place, _, choice = word.partition(":")
        place, choice = place.replace("_", "-"), choice.replace("_", "-")
        known = [c for switch in self._choices[place] for c in switch.choices]
        if choice not in known:
            words.mistakes.append(f"there is no part {word}{_near(choice, known, f'{place}:')}")
        elif words.switches.setdefault(place, choice) != choice:
            words.mistakes.append(
                f"{place}:{words.switches[place]} and {word} exclude each other: give one of them"
            )

    def _is_switch(self, word: str) -> bool:
        place, colon, _ = word.partition(":")
        return bool(colon) and place.replace("_", "-") in self._choices

    def _misplaced(self) -> Iterable[str]:
        """What is known and does not belong to the parts that are chosen, and what is too much."""
        places = self.options.places
        for place, choice in self.words.switches.items():
            if place not in places or choice not in places[place].choices:
                known = [s for s in self._choices[place] if choice in s.choices]
                yield self._belongs(f"{place}:{choice}", [switch.needs for switch in known])
        for name in self.words.options:
            if name not in self.options.by_name:
                option = self._name(name)
                where = [each.needs for each in self._every.options if each.name == option]
                yield self._belongs(name, where)
        most = [option.values for option in self.options.positionals]
        if None not in most and len(self.words.positionals) > sum(filter(None, most)):
            word = self.words.positionals[sum(filter(None, most))]
            parts = [s.word(c) for s in self._every.switches for c in s.choices]
            yield f"unexpected argument {word!r}{_near(word, [*parts, *self.options.by_name])}"

    def _belongs(self, typed: str, needs: Sequence[Chosen]) -> str:
        """What to add, where a part that is not chosen has it."""
        now = {switch.place: switch.now for switch in self.options.switches} | self.words.switches
        lacking: list[list[str]] = [
            [f"{p}:{c}" for p, c in each.items() if now.get(p) != c and not self._comes_by(p, each)]
            for each in needs
        ]
        fewest = min(lacking, key=len)
        return f"{typed} goes with {' '.join(fewest)}: add that, or leave {typed} out"

    def _comes_by(self, place: str, needs: Chosen) -> bool:
        """Whether what is needed at a place stands there by itself once the rest is chosen."""
        return place not in self.words.switches and any(
            switch.default == needs[place] and 0 < len(switch.needs) < len(needs)
            for switch in self._choices[place]
            if switch.needs.items() <= needs.items()
        )

    def _lacking(self) -> list[str]:
        given = {self._name(name) for name in self.words.options}
        options = [o for o in self.options.options if o.required and not o.positional]
        lacking = [option.name for option in options if option.name not in given]
        places = [o for o in self.options.positionals if o.required and o.values is not None]
        return [option.name for option in places[len(self.words.positionals) :]] + lacking

    def _nearest(self, typed: str) -> str:
        """Names that exist with the parts that are chosen come first, then any."""
        names = list(self._every.by_name)
        if near := _near(typed, names):
            return near
        last = typed.rpartition(".")[2].lstrip("-")
        ends = {name.rpartition(".")[2].lstrip("-"): name for name in reversed(names)}
        close = difflib.get_close_matches(last, ends, n=1, cutoff=0.8)
        return f"; did you mean {ends[close[0]]}?" if close else ""


def _near(typed: str, names: Iterable[str], before: str = "") -> str:
    close = difflib.get_close_matches(typed, list(names), n=1)
    return f"; did you mean {before}{close[0]}?" if close else ""


def _is_option(word: str) -> bool:
    """Negative numbers are values."""
    head = word.partition("=")[0]
    if head.lower() in ("-inf", "-nan", "-infinity"):
        return False
    return head.startswith("-") and head.lstrip("-")[:1].isalpha()


def _joined(name: str, values: list[str]) -> list[str]:
    """The words of an option as they were typed; behind "=" a value may begin with a dash."""
    return [f"{name}={values[1]}", *values[2:]] if values[:1] == ["="] else [name, *values]


def _wrong_values(option: Option, typed: str, values: list[str]) -> str:
    """What is wrong with the words that follow an option, where that is plain to see."""
    most = option.values
    if most == 0 and values:
        return f"{typed} takes no value, found {values[0]!r}: {option.name} or {option.negation}"
    if most is not None and len(values) < most:
        return f"{typed} needs {'a value' if most == 1 else f'{most} values'}"
    kind = without_none(option.kind)
    if most is None:
        kind = kind.__args__[0]
    for value in values:
        if value == "None" and kind is not option.kind:
            continue
        if choices := choices_of(kind):
            if value not in map(str, choices):
                known = ", ".join(map(str, choices))
                return f"{typed}: {value!r} is none of {known}{_near(value, map(str, choices))}"
        elif kind in (int, float):
            try:
                kind(value)
            except ValueError:
                name = "whole number" if kind is int else "number"
                return f"{typed}: {value!r} is no {name}"
    return ""

"""Check the words of a command line against a command's options and order them for tyro.

Parts may be chosen anywhere among the options, and a list option ends at such a choice. Mistakes
are reported with the nearest valid name, before tyro sees the words.
"""

import difflib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from vidembed.cli.annotations import choices_of, without_none
from vidembed.cli.command_line import HELP
from vidembed.cli.options import Chosen, Option, Options, Switch

END_OF_OPTIONS = "--"


class Mistake(ValueError):  # noqa: N818 - the user's mistake, not an error of the program
    """What is wrong with the command line, and what was probably meant."""


@dataclass
class Words:
    """A parsed command line. Mistakes are collected here and raised by `Arguments.ordered`."""

    switches: dict[str, str] = field(default_factory=dict)
    """Place → word, as task.miner → hardest."""
    options: dict[str, list[str]] = field(default_factory=dict)
    """Option as typed, without "=" → its words for tyro, itself included; if given twice, the last
    ones."""
    positionals: list[str] = field(default_factory=list)
    mistakes: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    """Warnings: valid, but possibly not intended."""
    ended: bool = False
    """Whether "--" came before the positionals."""


class Arguments:
    """The arguments of one command."""

    def __init__(self, command: Any, arguments: Sequence[str], *, preset: Sequence[str] = ()):
        """preset: options and switches used as defaults; those the command lacks are ignored."""
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
        """The words in the order tyro needs: switches, positionals, options. Raises Mistake."""
        words, known = self.words, self.options
        mistakes = [*words.mistakes, *self._misplaced()]
        if mistakes:
            raise Mistake(mistakes[0])
        if missing := self._missing():
            raise Mistake(f"{' and '.join(missing)} must be given")
        typed = [switch.word(switch.now) for switch in known.switches if switch.now]
        options = [word for typed_option in words.options.values() for word in typed_option]
        if words.ended:
            return [*typed, *options, END_OF_OPTIONS, *words.positionals]
        return [*typed, *words.positionals, *options]

    def _name(self, typed: str) -> str:
        """The option behind a name, an alias or a negation."""
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
            if word in HELP:
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
            # Skip its values, or they would be read as something else.
            while rest and not _is_option(rest[0]) and not self._is_switch(rest[0]):
                rest.pop(0)
            return
        most = option.values
        for earlier in [key for key in words.options if self._name(key) == option.name]:
            del words.options[earlier]
            if most is None:
                words.notes.append(f"{typed} is given more than once: only the last counts")
        values = [value] if equals else []
        while rest and (most is None or len(values) < most):
            # The value of an option that takes exactly one is never read as a switch.
            if (
                rest[0] == END_OF_OPTIONS
                or _is_option(rest[0])
                or (most is None and self._is_switch(rest[0]))
            ):
                break
            values.append(rest.pop(0))
        words.options[name] = [f"{name}={value}", *values[1:]] if equals else [name, *values]
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
        """Report known options that the chosen parts do not have, and surplus arguments."""
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
        """Say which part to choose for an option that the chosen parts do not have."""
        now = {switch.place: switch.now for switch in self.options.switches} | self.words.switches
        missing: list[list[str]] = [
            [f"{p}:{c}" for p, c in each.items() if now.get(p) != c and not self._implied(p, each)]
            for each in needs
        ]
        fewest = min(missing, key=len)
        return f"{typed} goes with {' '.join(fewest)}: add that, or leave {typed} out"

    def _implied(self, place: str, needs: Chosen) -> bool:
        """Whether the part needed at a place is its default once the other parts are chosen."""
        return place not in self.words.switches and any(
            switch.default == needs[place] and 0 < len(switch.needs) < len(needs)
            for switch in self._choices[place]
            if switch.needs.items() <= needs.items()
        )

    def _missing(self) -> list[str]:
        given = {self._name(name) for name in self.words.options}
        options = [o for o in self.options.options if o.required and not o.positional]
        missing = [option.name for option in options if option.name not in given]
        places = [o for o in self.options.positionals if o.required and o.values is not None]
        return [option.name for option in places[len(self.words.positionals) :]] + missing

    def _nearest(self, typed: str) -> str:
        """Suggest a similar option, else one whose last component is similar."""
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
    """Whether a word is an option; negative numbers are values."""
    head = word.partition("=")[0]
    if head.lower() in ("-inf", "-nan", "-infinity"):
        return False
    return head.startswith("-") and head.lstrip("-")[:1].isalpha()


def _wrong_values(option: Option, typed: str, values: list[str]) -> str:
    """Describe a wrong number, choice or type of the words after an option; "" if there is none."""
    most = option.values
    if most == 0 and values:
        return f"{typed} takes no value, got {values[0]!r}: use {option.name} or {option.negation}"
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
                return f"{typed}: {value!r} is not one of {known}{_near(value, map(str, choices))}"
        elif kind in (int, float):
            try:
                kind(value)
            except ValueError:
                name = "whole number" if kind is int else "number"
                return f"{typed}: {value!r} is not a {name}"
    return ""

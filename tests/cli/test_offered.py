"""Fields typed by a protocol, on a command line that knows classes alone."""

import typing
from dataclasses import dataclass, field, fields
from typing import Annotated, Protocol

import pytest
import tyro

from vidembed import TUNABLE
from vidembed.cli import command_line
from vidembed.cli.offered import Offered


class Shape(Protocol):
    def area(self) -> float: ...


class Paint(Protocol):
    @property
    def colour(self) -> str: ...


@dataclass(frozen=True, kw_only=True)
class Oil:
    """Slow to dry."""

    colour: str = "red"


@dataclass(frozen=True, kw_only=True)
class Chalk:
    """Comes off."""

    colour: str = "white"


@dataclass(frozen=True, kw_only=True)
class Square:
    """Four sides."""

    side: float = 1.0
    """How long each is."""
    paint: Paint = Oil()

    def __post_init__(self):
        if self.side < 0:
            raise ValueError(f"side {self.side} must not be below zero")

    def area(self):
        return self.side**2


@dataclass(frozen=True, kw_only=True)
class Disc:
    """No side."""

    radius: float = 1.0

    def area(self):
        return 3 * self.radius**2


@dataclass(frozen=True, kw_only=True)
class Star:
    """Not offered."""

    radius: float = 1.0

    def area(self):
        return self.radius**2


@dataclass(frozen=True, kw_only=True)
class Board:
    """Bears a field that nobody sets."""

    paint: Paint = Oil()
    made: int = field(default=3, init=False)


@dataclass(frozen=True, kw_only=True)
class Picture:
    """What is drawn."""

    width: int
    """In metres."""
    shape: Annotated[Shape, TUNABLE] = Square()
    """What it shows."""
    frame: Paint | None = None
    rest: tuple[Shape, ...] = field(default_factory=lambda: (Square(side=2.0),))


OFFERED = {Shape: Square | Disc, Paint: Oil | Chalk}


def parsed(value, *arguments, choices=OFFERED):
    offered = Offered(choices, value)
    chosen = command_line.parse_one(offered.shadow(value), arguments, prog="draw")
    return offered.plain(chosen)


def test_choices_stand_in_place_of_protocols():
    offered = Offered(OFFERED, None)
    narrowed = offered.narrowed(Picture)
    assert offered.narrowed(Picture) is narrowed
    assert issubclass(narrowed, Picture)
    for name in ("__name__", "__qualname__", "__module__", "__doc__"):
        assert getattr(narrowed, name) == getattr(Picture, name)
    assert [f.name for f in fields(narrowed)] == [f.name for f in fields(Picture)]
    hints = typing.get_type_hints(narrowed, include_extras=True)
    square = offered.narrowed(Square)
    assert hints["shape"] == Annotated[square | Disc, TUNABLE]
    assert hints["frame"] == Oil | Chalk | None
    assert hints["rest"] == tuple[square | Disc, ...]
    assert hints["width"] is int
    assert typing.get_type_hints(square)["paint"] == Oil | Chalk
    # What needs no change stays itself, its values too.
    assert offered.narrowed(Disc) is Disc
    disc = Disc()
    assert offered.shadow(disc) is disc
    assert Offered({Paint: Oil}, None).narrowed(Paint) is Oil


def test_values_become_real_again():
    picture = Picture(width=3, shape=Square(paint=Chalk()), frame=Oil(colour="gold"))
    offered = Offered(OFFERED, picture)
    shadow = offered.shadow(picture)
    assert type(shadow) is not Picture
    assert type(shadow.rest[0]) is offered.narrowed(Square)
    assert offered.plain(shadow) == picture
    assert type(offered.plain(shadow).rest[0]) is Square
    assert offered.plain(offered.shadow(Board(paint=Chalk()))) == Board(paint=Chalk())
    # As do the defaults of a narrowed class.
    default = offered.narrowed(Picture)(width=4)
    assert type(default.shape) is type(default.rest[0]) is offered.narrowed(Square)
    assert offered.plain(default) == Picture(width=4)


def test_parts_are_chosen_and_their_options_set():
    picture = Picture(width=3, rest=())
    assert parsed(picture) == picture
    assert parsed(picture, "shape:disc", "--shape.radius", "4").shape == Disc(radius=4.0)
    chosen = parsed(picture, "shape:square", "shape.paint:chalk", "--shape.paint.colour", "grey")
    assert chosen.shape == Square(paint=Chalk(colour="grey"))
    # One choice is no word to type.
    assert parsed(Square(), "--paint.colour", "blue", choices={Paint: Oil}).paint == Oil(
        colour="blue"
    )


def test_what_a_value_holds_is_offered_too():
    star = Picture(width=3, shape=Star(radius=2.0), rest=())
    assert parsed(star, "--shape.radius", "5").shape == Star(radius=5.0)
    assert parsed(star, "shape:disc").shape == Disc()
    # And stands alone where nothing is offered.
    assert parsed(Square(paint=Chalk()), choices={}) == Square(paint=Chalk())


def test_help_and_mistakes_are_those_of_the_real_classes(capsys):
    with pytest.raises(SystemExit) as end:
        parsed(Picture(width=tyro.MISSING, rest=()), "--help")
    assert end.value.code == 0
    text = capsys.readouterr().out
    assert all(words in text for words in ("What is drawn.", "In metres.", "How long each is."))
    assert "shape:        [square], disc" in text
    with pytest.raises(SystemExit) as end:
        parsed(Picture(width=3, rest=()), "--shape.side", "-1")
    assert end.value.code == 2
    assert "--shape.side -1.0 must not be below zero" in capsys.readouterr().err

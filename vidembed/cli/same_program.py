"""Another verb of the program that runs, as one would type it."""

import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

from vidembed.workdir.layout import Workdir

VERB = "report"


def same_program(verb: str, workdir: str, words: Sequence[str] | None = None) -> str:
    """The command that runs a verb on a work directory, by the words that `report` was started
    with: the same interpreter, script or module, and recipe.

    words: those of this process. Where they hold no `report`, as in a program that calls it by
    itself, the verb with --workdir.
    """
    words = list(sys.orig_argv if words is None else words)
    options = ["--workdir", str(Workdir(workdir))]
    if VERB not in words:
        return shlex.join([verb, *options])
    place = words.index(VERB)
    program, rest = words[:place], words[place + 1 :]
    # Behind the verb stand the recipe and its system, if anything does, before the options.
    first = next((n for n, word in enumerate(rest) if word.startswith("-")), len(rest))
    if len(program) > 1 and program[1].endswith("/vidembed"):  # the script that pip installs
        program = ["vidembed", *program[2:]]
    elif Path(program[0]).name.startswith("python"):
        program[0] = _short(program[0])
    return shlex.join([*program, verb, *rest[:first], *options])


def _short(interpreter: str) -> str:
    """A path below this folder without it."""
    path = Path(interpreter)
    return str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else interpreter

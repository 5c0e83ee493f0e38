"""Name another verb of the running program, as a user would type it."""

import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

from vidembed.workdir.layout import Workdir

VERB = "report"


def same_program(verb: str, workdir: str, words: Sequence[str] | None = None) -> str:
    """The command that runs a verb on a work directory with the interpreter, script or module, and
    recipe that `report` was started with.

    words: the command line of this process by default. If it has no `report`, as in a program that
    calls the report itself, the result is the verb with --workdir.
    """
    words = list(sys.orig_argv if words is None else words)
    options = ["--workdir", str(Workdir(workdir))]
    if VERB not in words:
        return shlex.join([verb, *options])
    place = words.index(VERB)
    program, rest = words[:place], words[place + 1 :]
    # The recipe and its system, if given, come after the verb and before the options.
    first = next((n for n, word in enumerate(rest) if word.startswith("-")), len(rest))
    if len(program) > 1 and program[1].endswith("/vidembed"):  # the script that pip installs
        program = ["vidembed", *program[2:]]
    elif Path(program[0]).name.startswith("python"):
        program[0] = _short(program[0])
    return shlex.join([*program, verb, *rest[:first], *options])


def _short(interpreter: str) -> str:
    """A path relative to the current folder, if it lies below it."""
    path = Path(interpreter)
    return str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else interpreter

"""`python -m vidembed VERB ...`: from records and sessions to an embedding, measured and in use."""

import importlib
import sys
from collections.abc import Sequence

from vidembed.cli import command_line

DATA = {
    "inspect": ("vidembed.records.inspecting", "check records or a feature table; list all faults"),
    "import": ("vidembed.records.importing", "TFRecords to a feature table"),
    "simulate": ("vidembed.sessions.simulate", "labels of a table to simulated sessions"),
    "cowatch": ("vidembed.sessions.cowatch", "watch sessions to co-watch edges"),
    "colike": ("vidembed.cli.coliking", "ratings to co-like edges"),
    "cluster": ("vidembed.cli.clustering", "co-watch edges to a hierarchy of clusters"),
    "embed": ("vidembed.cli.embedding", "vectors of a table or of records, by a trained run"),
    "compose": ("vidembed.cli.composing", "several runs as one, their vectors side by side"),
    "export": ("vidembed.cli.exporting", "a trained run as StableHLO and safetensors"),
    "index": ("vidembed.cli.indexing", "an index of a table's videos, made and kept up to date"),
    "recommend": ("vidembed.cli.recommending", "what an index recommends to users, by histories"),
    "search": ("vidembed.cli.searching", "what an index finds for videos, records or a history"),
    "semantic-ids": ("vidembed.cli.semantic_ids", "a few numbers per video, alike for near ones"),
}
"""Verb → (module whose `main` it is, what it does). Modules are imported only for their own verb:
together they take seconds."""
RUNS = {
    "train": "train a recipe, or go on training",
    "evaluate": "measure checkpoints, as they come or afterwards",
    "report": "write the report of a run",
    "show": "a resolved recipe, and what a step costs",
}
"""Verb of `vidembed.cli.verbs`, to be followed by the name of a recipe → what it does."""
NOTES = """Training and evaluation: RECIPE follows the verb, as in `train cdml --workdir W`.
Exit codes: 0 done; 1 refused or failed, with one message; 2 a mistake on the command line; 130
interrupted; 143 asked to stop, and saved.
VIDEMBED_TRACEBACK=1 in the environment shows where an error was raised."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one verb; an exit code."""
    given, prog = sys.argv[1:] if arguments is None else arguments, "python -m vidembed"
    words = {verb: text for verb, (_, text) in DATA.items()} | RUNS
    verb, rest = command_line.choose(words, given, prog=prog, about=NOTES)
    if verb in RUNS:
        from vidembed.cli import launch

        return launch.of_paper(verb, rest, prog=f"{prog} {verb}")
    module = importlib.import_module(DATA[verb][0])
    return command_line.call(module.main, rest, prog=f"{prog} {verb}")


if __name__ == "__main__":
    sys.exit(main())

"""`python -m vidembed VERB ...`: import data, train embeddings, evaluate them and use them."""

import importlib
import sys
from collections.abc import Sequence

from vidembed.cli import command_line
from vidembed.cli.guard import guarded

DATA = {
    "inspect": ("vidembed.records.inspecting", "check records or a feature table; list all faults"),
    "import": ("vidembed.records.importing", "import feature files into a feature table"),
    "extract": ("vidembed.cli.extracting", "extract features of video files into a feature table"),
    "simulate": ("vidembed.sessions.simulate", "simulate watch sessions from a table's labels"),
    "cowatch": ("vidembed.sessions.cowatch", "count co-watch edges from watch sessions"),
    "colike": ("vidembed.cli.coliking", "count co-like edges from ratings"),
    "cluster": ("vidembed.cli.clustering", "build a hierarchy of clusters from co-watch edges"),
    "embed": ("vidembed.cli.embedding", "embed a table or records with a trained run"),
    "annotate": ("vidembed.cli.annotating", "label a table or records with an annotation run"),
    "compose": ("vidembed.cli.composing", "combine several runs by concatenating their vectors"),
    "export": ("vidembed.cli.exporting", "export a trained run as StableHLO and safetensors"),
    "index": ("vidembed.cli.indexing", "build or update an index of a table's videos"),
    "recommend": ("vidembed.cli.recommending", "recommend videos to users from their histories"),
    "search": ("vidembed.cli.searching", "search an index by videos, records or a history"),
    "semantic-ids": ("vidembed.cli.semantic_ids", "give similar videos similar short codes"),
}
"""Verb → (module with its `main`, description). Only the module of the chosen verb is imported,
because all together take seconds."""
RUNS = {
    "train": "train a recipe, or resume training",
    "evaluate": "evaluate checkpoints, as they appear or afterwards",
    "report": "write the report of a run",
    "show": "show a resolved recipe, and the cost of a step",
}
"""Verb of `vidembed.cli.verbs`, followed by the name of a recipe → description."""
NOTES = """Training and evaluation: RECIPE follows the verb, as in `train cdml --workdir W`.
--help after a verb shows what people change first, --help-all every option; --version what is
installed.
Exit codes: 0 done; 1 refused or failed, with one message; 2 a mistake on the command line; 130
interrupted; 143 stopped on request, and saved.
Set VIDEMBED_TRACEBACK=1 in the environment to see where an error was raised."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one verb; returns its exit code."""
    given, prog = sys.argv[1:] if arguments is None else arguments, "python -m vidembed"
    if list(given[:1]) == ["--version"]:
        from vidembed.cli.version import version_line

        return guarded(lambda: print(version_line()) or 0, stops=False)
    words = {verb: text for verb, (_, text) in DATA.items()} | RUNS
    verb, rest = command_line.choose(words, given, prog=prog, about=NOTES)
    if verb in RUNS:
        from vidembed.cli import launch

        return launch.of_paper(verb, rest, prog=f"{prog} {verb}")
    module = importlib.import_module(DATA[verb][0])
    return command_line.call(module.main, rest, prog=f"{prog} {verb}")


if __name__ == "__main__":
    sys.exit(main())

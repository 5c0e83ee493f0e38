"""`python -m vidembed VERB ...`: from records and sessions to a table, relations and clusters."""

import difflib
import importlib
import os
import sys
from collections.abc import Sequence

# Verb -> (module whose `main` it is, what it does). Modules are imported only for their own verb:
# together they take seconds.
VERBS = {
    "inspect": ("vidembed.records.inspecting", "check records or a feature table; list all faults"),
    "import": ("vidembed.records.importing", "TFRecords to a feature table"),
    "simulate": ("vidembed.feeds.simulated_sessions", "labels of a table to simulated sessions"),
    "cowatch": ("vidembed.graph.cowatch", "watch sessions to co-watch edges"),
    "cluster": ("vidembed.clustering", "co-watch edges to a hierarchy of clusters"),
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one verb; returns the exit code: 0, 1 for an error or faults, 2 for a wrong command."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    if not given or given[0] in ("-h", "--help"):
        print(_usage())
        return 0 if given else 2
    verb, *rest = given
    if verb not in VERBS:
        near = difflib.get_close_matches(verb, VERBS, n=1)
        meant = f" Did you mean {near[0]!r}?" if near else ""
        print(f"there is no verb {verb!r}.{meant}\n\n{_usage()}", file=sys.stderr)
        return 2
    import tyro

    module = importlib.import_module(VERBS[verb][0])
    try:
        code = tyro.cli(
            module.main,
            prog=f"python -m vidembed {verb}",
            args=rest,
            config=(tyro.conf.PositionalRequiredArgs, tyro.conf.FlagCreatePairsOff),
        )
    except (ValueError, OSError) as error:
        if os.environ.get("VIDEMBED_TRACEBACK"):
            raise
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130
    return code or 0


def _usage() -> str:
    verbs = "\n".join(f"  {verb:<10} {text}" for verb, (_, text) in VERBS.items())
    return (
        "usage: python -m vidembed VERB ...\n\n"
        f"{verbs}\n\n"
        "Each verb explains itself: python -m vidembed VERB --help.\n"
        "VIDEMBED_TRACEBACK=1 in the environment shows where an error was raised.\n"
        "Training and evaluation: python -m experiments.cdml --help"
    )


if __name__ == "__main__":
    sys.exit(main())

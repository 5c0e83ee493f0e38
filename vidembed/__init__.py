"""vidembed: content-aware video embeddings learned from what people watch together.

`vidembed.load` puts a trained run to use, `vidembed.index` makes a table's own features searched.
They are imported when first used: `import vidembed` takes no time.

What a part of one's own says of its fields: `table: Annotated[str, PATH]` names a place. A field
without a role decides what a run computes, and never differs between two looks at one run.
"""

import enum

TYPE_CHECKING = False
if TYPE_CHECKING:  # as type checkers know it, without importing typing
    from vidembed.deploy.features import index as index
    from vidembed.deploy.loading import load as load

_LAZY = {"index": "vidembed.deploy.features", "load": "vidembed.deploy.loading"}
"""Public name → the module that has it."""


class FieldRole(enum.Enum):
    """Why a field does not decide what a run computes."""

    PATH = "where something lies: may differ between hosts, on resume, and when a run is measured"
    TUNABLE = "how long, how often, on what: may change on resume"


PATH, TUNABLE = FieldRole


def __getattr__(name: str) -> object:
    if name not in _LAZY:
        raise AttributeError(f"module 'vidembed' has no attribute {name!r}")
    import importlib

    return getattr(importlib.import_module(_LAZY[name]), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *_LAZY])

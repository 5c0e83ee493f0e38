"""vidembed: content-aware video embeddings learned from what people watch together.

`vidembed.load` loads a trained run for use, `vidembed.index` makes the features of a table
searchable. Both are imported on first use, so `import vidembed` takes no time.

The fields of a configurable part may have a role: `table: Annotated[str, PATH]` is a path. A field
without a role determines what a run computes, and must not change during the life of a run.
"""

import enum

TYPE_CHECKING = False
if TYPE_CHECKING:  # type checkers know this name; it avoids importing typing
    from vidembed.deploy.features import index as index
    from vidembed.deploy.loading import load as load

_LAZY = {"index": "vidembed.deploy.features", "load": "vidembed.deploy.loading"}
"""Public name → its module."""


class FieldRole(enum.Enum):
    """The reason why a field does not determine what a run computes."""

    PATH = "a path: may differ between hosts, on resume, and during evaluation"
    TUNABLE = "how long, how often, on what: may change on resume"


PATH, TUNABLE = FieldRole


def __getattr__(name: str) -> object:
    if name not in _LAZY:
        raise AttributeError(f"module 'vidembed' has no attribute {name!r}")
    import importlib

    return getattr(importlib.import_module(_LAZY[name]), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *_LAZY])

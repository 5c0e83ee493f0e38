"""vidembed: content-aware video embeddings learned from what people watch together.

What a part of one's own says of its fields: `table: Annotated[str, PATH]` names a place. A field
without a role decides what a run computes, and never differs between two looks at one run.
"""

import enum


class FieldRole(enum.Enum):
    """Why a field does not decide what a run computes."""

    PATH = "where something lies: may differ between hosts, on resume, and when a run is measured"
    TUNABLE = "how long, how often, on what: may change on resume"


PATH, TUNABLE = FieldRole

"""The JSON record of a checkpoint, with a digest per array, and the checks against it."""

import json
from collections.abc import Collection, Mapping
from typing import Any

import jax
import xxhash

_FORMAT = 1


class CheckpointError(RuntimeError):
    """A checkpoint could not be written or read; the message names the step and the remedy."""


class MismatchError(CheckpointError):
    """The stored arrays differ from the expected ones in entries, shapes or dtypes."""


class DigestError(CheckpointError):
    """The stored data are damaged."""


class VanishedError(CheckpointError):
    """The step does not exist (any more): a trainer may have deleted it."""


def entries_of(tree: Any) -> dict[str, Any]:
    """Path -> leaf of a pytree, such as "params/visual/0/kernel".

    Raises ValueError if two leaves have one path, TypeError for leaves that are not jax arrays
    (or ShapeDtypeStructs) and for PRNG keys.
    """
    entries: dict[str, Any] = {}
    for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
        name = jax.tree_util.keystr(path, simple=True, separator="/")
        if name in entries or not name:
            raise ValueError(
                f"each array needs a unique name in the tree, got {name!r}: use a dict"
            )
        if not isinstance(leaf, jax.Array | jax.ShapeDtypeStruct):
            raise TypeError(
                f"{name} is a {type(leaf).__name__}; a checkpoint holds jax arrays. Put numbers "
                "and text into `meta`, and convert other arrays with jnp.asarray."
            )
        if jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key):
            raise TypeError(f"{name} is a PRNG key; keep its jax.random.key_data instead")
        entries[name] = leaf
    return entries


def is_below(path: str, beginnings: Collection[str]) -> bool:
    """Whether a path is one of these or below one: "a/b/c" is below "a/b", not below "a/bc".

    Names in a path may themselves contain slashes.
    """
    return any(path == prefix or path.startswith(f"{prefix}/") for prefix in beginnings)


def part_of(tree: Mapping[str, Any], beginnings: Collection[str], _at: str = "") -> dict[str, Any]:
    """The part of a tree of dicts below these paths, for `Checkpoints.restore(only=...)`."""
    part: dict[str, Any] = {}
    for name, below in tree.items():
        path = f"{_at}{name}"
        if is_below(path, beginnings):
            part[name] = below
        elif isinstance(below, Mapping) and (inside := part_of(below, beginnings, f"{path}/")):
            part[name] = inside
    return part


def write_record(
    step: int, meta: dict[str, Any], arrays: dict[str, jax.Array], digests: dict[str, str]
) -> dict[str, Any]:
    """The record of a step: its number, `meta`, each entry's shape, dtype and digest.

    Raises TypeError or ValueError if `meta` is not JSON (NaN is not).
    """
    record = {
        "format": _FORMAT,
        "step": step,
        "meta": meta,
        "entries": {
            name: {"shape": list(array.shape), "dtype": str(array.dtype), "digest": digests[name]}
            for name, array in arrays.items()
        },
    }
    # Through JSON, as it will be read: tuples become lists, keys become text.
    record = json.loads(json.dumps(record, allow_nan=False))
    return {**record, "digest": _digest(record)}


def read_record(text: str, step: int) -> dict[str, Any] | None:
    """The record of a step from its text, or None if it is damaged or another step's.

    Raises CheckpointError if another version of this package wrote it.
    """
    try:
        record = json.loads(text)
        if record.pop("digest") != _digest(record) or record["step"] != step:
            return None
    except (ValueError, KeyError, TypeError, AttributeError):
        return None
    if record["format"] != _FORMAT:
        raise CheckpointError(
            f"step {step} has format {record['format']}, this version of vidembed reads {_FORMAT}: "
            "use the version that wrote it."
        )
    return record


def refuse_differences(
    place: str, expected: dict[str, Any], stored: dict[str, dict[str, Any]]
) -> None:
    """Raise MismatchError, with one line per difference, unless all entries are as expected."""
    lines = [f"{name}: expected, not stored" for name in expected if name not in stored]
    lines += [f"{name}: stored, not expected" for name in stored if name not in expected]
    for name in expected.keys() & stored.keys():
        stored_type = f"{stored[name]['dtype']}{stored[name]['shape']}"
        expected_type = f"{expected[name].dtype}{list(expected[name].shape)}"
        if stored_type != expected_type:
            lines.append(f"{name}: stored {stored_type}, expected {expected_type}")
    if lines:
        raise MismatchError(
            f"{place} holds other arrays than expected:\n  "
            + "\n  ".join(sorted(lines))
            + "\nRestore with the recipe that saved it; nothing is cast or skipped silently."
        )


def refuse_damage(
    step: int, computed: dict[str, str], stored: dict[str, dict[str, Any]], remedy: str
) -> None:
    """Raise DigestError, ending with `remedy`, unless all digests equal the stored ones."""
    bad = [name for name in stored if computed[name] != stored[name]["digest"]]
    if bad:
        named = ", ".join(bad[:5]) + (f" and {len(bad) - 5} more" if bad[5:] else "")
        raise DigestError(
            f"step {step} is damaged: the bits of {named} are not those that were saved. {remedy}"
        )


def _digest(record: dict[str, Any]) -> str:
    return xxhash.xxh3_64_hexdigest(json.dumps(record, sort_keys=True).encode())


def in_short(error: BaseException) -> str:
    """The first line of an error, with the middle of a long line omitted."""
    text = f"{type(error).__name__}: {error}".strip().splitlines()[0].rstrip(".")
    return text if len(text) <= 300 else f"{text[:140]} ... {text[-140:]}"

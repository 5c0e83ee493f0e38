"""Search engines by name, and their conversion to and from the JSON of an index."""

import dataclasses
from typing import Any

from vidembed.serving.exact import Exact
from vidembed.serving.faiss_engine import FastScan, Hnsw, Ivf
from vidembed.serving.segment import Engine

ENGINES: dict[str, Any] = {"exact": Exact, "fast-scan": FastScan, "hnsw": Hnsw, "ivf": Ivf}


def engine_of(engine: str | Engine) -> Engine:
    """The engine of a name with default options; an engine is returned as it is."""
    if not isinstance(engine, str):
        return engine
    if engine not in ENGINES:
        raise ValueError(f"engine {engine!r} is not known: choose one of {', '.join(ENGINES)}")
    default: Engine = ENGINES[engine]()
    return default


def engine_to_json(engine: Engine) -> dict[str, Any]:
    """Name and options of an engine as JSON values."""
    name = next(name for name, kind in ENGINES.items() if type(engine) is kind)
    return {"name": name, "options": dataclasses.asdict(engine)}  # type: ignore[call-overload]


def engine_from_json(value: dict[str, Any]) -> Engine:
    """The engine from the result of `engine_to_json`."""
    engine: Engine = ENGINES[value["name"]](**value["options"])
    return engine


def with_effort(engine: Engine, effort: int | None) -> Engine:
    """The same engine with another effort; None keeps its own."""
    if effort is None:
        return engine
    if effort < 1:
        raise ValueError(f"effort is {effort}: it must be 1 or more")
    return dataclasses.replace(engine, effort=effort)  # type: ignore[type-var]

"""The direction of imports, function-level ones too, and who alone may import what."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "vidembed"
BASE = {"", "records", "files", "pairwise", "progress"}
"""What all may import: the package itself, its base, and the three modules beside the folders."""
ARROWS = {
    "": {"cli", "deploy"},
    "cli": {
        "engine", "recipes", "workdir", "distributed", "corpora", "sessions", "graph", "feeds",
        "models", "mining", "losses", "tasks", "metrics", "evaluators", "report",
        "deploy", "serving", "media",
    },
    "deploy": {"engine", "recipes", "serving", "workdir", "metrics", "media", "distributed.mesh"},
    "recipes": {
        "engine", "corpora", "feeds", "models", "mining", "losses", "tasks", "evaluators",
        "serving",
    },
    "engine": {"workdir", "distributed"},
    "workdir": {"distributed"},
    "distributed": set(),
    "tasks": {"models", "mining", "losses", "distributed.mesh"},
    "models": {"distributed.mesh"},
    "mining": {"distributed.mesh"},
    "losses": {"distributed.mesh"},
    "evaluators": {"metrics", "corpora", "graph", "models", "serving", "distributed.mesh"},
    "serving": {"distributed.mesh"},
    "metrics": set(),
    "feeds": {"corpora", "graph", "media", "tasks.spec"},
    "corpora": {"graph", "media"},
    "media": set(),
    "sessions": {"graph"},
    "graph": set(),
    "report": {"corpora", "graph", "metrics"},
    "records": {"distributed.mesh"},
    "pairwise": {"distributed.mesh"},
    "files": set(),
    "progress": set(),
}  # fmt: skip
"""Folder or module at the root → what else it may import."""
ALONE = {
    "flax": {"models"},
    "orbax": {"workdir/checkpoints"},
    "optax": {"engine/optimiser.py", "engine/step.py"},
    "duckdb": {"records/tabular.py", "sessions/cowatch.py", "sessions/database.py"},
    "tensorstore": {"records"},
    "grain": {"records", "feeds"},
    "jinja2": {"report"},
    "faiss": {"serving/faiss_engine"},
    "av": {"media"},
    "onnx": {"media/backbones"},
    "onnxruntime": {"media/onnx.py"},
    "tokenizers": {"records/vocabulary.py"},
    "tyro": {"cli", "records/importing.py", "records/inspecting.py"},
}
"""Library → the folders and files that may import it."""


def sources():
    return sorted(PACKAGE.rglob("*.py"))


def name_of(path):
    return path.relative_to(PACKAGE).as_posix()


def imported(path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def modules_of_ours(path):
    """Dotted names below the package: of `from vidembed.graph.edges import X`, graph.edges."""
    for name in imported(path):
        if name.split(".")[0] != "vidembed":
            continue
        parts = name.split(".")[1:]
        while parts and not _is_module(parts):
            parts.pop()
        yield ".".join(parts)


def _is_module(parts):
    path = PACKAGE.joinpath(*parts)
    return path.is_dir() or path.with_suffix(".py").exists()


def folder_of(path):
    first, *rest = path.relative_to(PACKAGE).with_suffix("").parts
    return first if rest or not first.startswith("__") else ""


def against_the_arrows(path):
    folder = folder_of(path)
    allowed = BASE | ARROWS[folder] | {folder}
    found = set(modules_of_ours(path))
    return {name for name in found if not {name, name.split(".")[0]} & allowed}


@pytest.mark.parametrize("path", sources(), ids=name_of)
def test_imports_follow_the_arrows(path):
    assert against_the_arrows(path) == set()


@pytest.mark.parametrize("path", sources(), ids=name_of)
def test_libraries_have_their_place(path):
    found = {name.split(".")[0] for name in imported(path)}
    assert "experiments" not in found
    for library in found & ALONE.keys():
        assert any(name_of(path).startswith(place) for place in ALONE[library]), library


def test_every_folder_is_known_and_three_modules_stand_beside_them():
    places = {folder_of(path) for path in sources()}
    assert places == ARROWS.keys()
    beside = {path.stem for path in PACKAGE.glob("*.py") if not path.stem.startswith("__")}
    assert beside == {"files", "pairwise", "progress"}


def test_only_the_mesh_names_axes_and_communicates():
    alone = {"PartitionSpec", "all_gather", "all_to_all", "psum", "psum_scatter", "ppermute"}
    for path in sources():
        names = {
            node.attr if isinstance(node, ast.Attribute) else getattr(node, "id", "")
            for node in ast.walk(ast.parse(path.read_text()))
        }
        assert path.name == "mesh.py" or not names & alone, path


def test_nothing_imports_tensorflow_or_pickle():
    for path in [*sources(), *(ROOT / "experiments").rglob("*.py"), *(ROOT / "data").rglob("*.py")]:
        names = {module.split(".")[0] for module in imported(path)}
        assert not names & {"tensorflow", "pickle", "torch", "pandas"} or "benchmarks" in path.parts


def test_files_are_of_one_idea():
    sizes = {name_of(p): len(p.read_text().splitlines()) for p in sources()}
    assert {name: lines for name, lines in sizes.items() if lines > 250} == {}

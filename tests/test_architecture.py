"""The direction of imports, function-level ones too, and who alone may import what."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
SHARED = {"field_roles", "quantisation", "storage", "progress", "pairwise"}
"""Small files beside the folders that any part may use."""
ALLOWED = {
    "records": {"records"},
    "graph": {"graph", "records"},
    "feeds": {"feeds", "records", "graph"},
    "models": {"models"},
    "mining": {"mining"},
    "losses": {"losses"},
    "metrics": {"metrics"},
    "tasks": {"tasks", "models", "mining", "losses", "mesh"},
    "evaluators": {"evaluators", "metrics", "graph", "records", "mesh", "corpus"},
    "recipes": {"recipe", "optimiser", "evaluators", "feeds", "losses", "mining", "tasks"},
    "report": {"report", "corpus", "graph", "records", "metrics"},
}  # fmt: skip
ALONE = {
    "flax": {"models"},
    "orbax": {"checkpoint.py"},
    "optax": {"optimiser.py", "step.py"},
    "duckdb": {"graph", "records"},
    "tensorstore": {"records"},
    "grain": {"feeds"},
}


def sources():
    return sorted((ROOT / "vidembed").rglob("*.py"))


def imported(path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield node.module
            if node.module == "vidembed":
                yield from (f"vidembed.{alias.name}" for alias in node.names)


def part(path):
    inside = path.relative_to(ROOT / "vidembed")
    return inside.parts[0] if len(inside.parts) > 1 else inside.name


@pytest.mark.parametrize("path", sources(), ids=lambda p: str(p.relative_to(ROOT)))
def test_imports_follow_the_arrows(path):
    name = part(path)
    own = {module.split(".")[1] for module in imported(path) if module.startswith("vidembed.")}
    if name in ALLOWED:
        assert own <= ALLOWED[name] | SHARED, f"imports {own - ALLOWED[name] - SHARED}"
    assert not any(module.split(".")[0] == "experiments" for module in imported(path))
    for library, owners in ALONE.items():
        if any(module.split(".")[0] == library for module in imported(path)):
            assert name in owners, f"{path.name} imports {library}"


def test_every_part_is_known():
    parts = {part(p) for p in sources()}
    folders = {p for p in parts if not p.endswith(".py")}
    assert folders == ALLOWED.keys()


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
    sizes = {p: len(p.read_text().splitlines()) for p in sources()}
    too_long = {str(p): n for p, n in sizes.items() if n > 300}
    assert not too_long

"""Which commit made a number, in real git repositories."""

import subprocess

import pytest

from vidembed.workdir.versions import commit_of, versions


def git(folder, *arguments):
    who = ["-c", "user.name=a", "-c", "user.email=a@b"]
    command = ["git", "-C", str(folder), *who, *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


@pytest.fixture
def package(tmp_path):
    """A package's folder in a repository with one commit."""
    folder = tmp_path / "repository" / "package"
    folder.mkdir(parents=True)
    (folder / "__init__.py").write_text("")
    (folder.parent / ".gitignore").write_text("ignored\n")
    git(folder.parent, "init", "-q")
    git(folder.parent, "add", "-A")
    git(folder, "commit", "-q", "-m", "one")
    commit_of.cache_clear()
    yield folder
    commit_of.cache_clear()


def looked_at_anew(folder):
    commit_of.cache_clear()
    return commit_of(folder)


def test_the_commit_and_whether_the_tree_was_clean(package, monkeypatch):
    clean = {"commit": git(package, "rev-parse", "HEAD"), "tree": "clean"}
    # As a hook of another repository would set it.
    monkeypatch.setenv("GIT_DIR", str(package / "nowhere"))
    assert commit_of(package) == clean
    monkeypatch.delenv("GIT_DIR")
    # A work directory in the repository is no change of the code; another module is.
    (package.parent / "run").mkdir()
    (package.parent / "run" / "DONE").write_text("")
    (package / "ignored").write_text("")
    assert looked_at_anew(package) == clean
    (package / "new.py").write_text("")
    assert commit_of(package) == clean  # what was loaded is what was there at the start
    assert looked_at_anew(package) == clean | {"tree": "changed"}
    (package / "new.py").unlink()
    (package.parent / ".gitignore").write_text("")
    assert looked_at_anew(package)["tree"] == "changed"


def test_no_commit_where_none_is_the_packages_own(package, tmp_path, monkeypatch):
    installed = package / "lib" / "vidembed"
    installed.mkdir(parents=True)
    (installed / "__init__.py").write_text("")
    assert commit_of(installed) == {}
    outside = tmp_path / "outside"
    outside.mkdir()
    assert commit_of(outside) == {}
    monkeypatch.setenv("PATH", str(tmp_path))
    assert looked_at_anew(package) == {}


def test_versions_carry_the_commit(monkeypatch):
    monkeypatch.setattr(
        "vidembed.workdir.versions.commit_of", lambda folder: {"commit": folder.name}
    )
    assert versions()["commit"] == "vidembed"
    assert "jax" in versions()

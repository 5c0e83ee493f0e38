"""The commit recorded with results, in real git repositories."""

import subprocess

import pytest

from vidembed.workdir.versions import commit_of, versions


def git(folder, *arguments):
    who = ["-c", "user.name=a", "-c", "user.email=a@b"]
    command = ["git", "-C", str(folder), *who, *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


@pytest.fixture
def package(tmp_path):
    """The folder of a package in a repository with one commit."""
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


def uncached_commit_of(folder):
    commit_of.cache_clear()
    return commit_of(folder)


def test_the_commit_and_whether_the_tree_was_clean(package, monkeypatch):
    clean = {"commit": git(package, "rev-parse", "HEAD"), "tree": "clean"}
    # As set by a hook of another repository.
    monkeypatch.setenv("GIT_DIR", str(package / "nowhere"))
    assert commit_of(package) == clean
    monkeypatch.delenv("GIT_DIR")
    # A work directory in the repository does not change the code; a new module does.
    (package.parent / "run").mkdir()
    (package.parent / "run" / "DONE").write_text("")
    (package / "ignored").write_text("")
    assert uncached_commit_of(package) == clean
    (package / "new.py").write_text("")
    assert commit_of(package) == clean  # the loaded code is that of the start
    assert uncached_commit_of(package) == clean | {"tree": "changed"}
    (package / "new.py").unlink()
    (package.parent / ".gitignore").write_text("")
    assert uncached_commit_of(package)["tree"] == "changed"


def test_no_commit_outside_the_packages_own_repository(package, tmp_path, monkeypatch):
    installed = package / "lib" / "vidembed"
    installed.mkdir(parents=True)
    (installed / "__init__.py").write_text("")
    assert commit_of(installed) == {}
    outside = tmp_path / "outside"
    outside.mkdir()
    assert commit_of(outside) == {}
    monkeypatch.setenv("PATH", str(tmp_path))
    assert uncached_commit_of(package) == {}


def test_versions_carry_the_commit(monkeypatch):
    monkeypatch.setattr(
        "vidembed.workdir.versions.commit_of", lambda folder: {"commit": folder.name}
    )
    assert versions()["commit"] == "vidembed"
    assert "jax" in versions()

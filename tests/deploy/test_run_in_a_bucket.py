"""A work directory on object storage: trained there and loaded from there."""

import subprocess
import sys

import pytest


@pytest.mark.long
def test_a_run_is_trained_in_a_bucket_and_loaded_from_it(corpus_paths, tmp_path):
    arguments = [corpus_paths.table, corpus_paths.edges, str(tmp_path / "copy")]
    done = subprocess.run(
        [sys.executable, "-m", "tests.deploy.run_in_a_bucket", *arguments],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "refused: step 2 is damaged" in done.stdout

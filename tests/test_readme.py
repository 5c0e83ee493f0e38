"""The README, followed as it stands on the sample, and with the options of foreign data."""

import os
import re
import subprocess
import sys
import uuid
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

ROOT = Path(__file__).resolve().parents[1]
STEPS = 20
BEGINNING = f"""
set -e
vidembed() {{
    local verb=$1; shift
    if [ $verb = train ]; then set -- "$@" --steps {STEPS}; fi
    {sys.executable} -m vidembed $verb "$@"
}}
"""
UNEXPLAINED = re.compile(r"Traceback|Warning:|\bnan\b|\binf\b")


def follow(folder, script):
    """What a shell prints that is given the script; it ends well and explains itself."""
    done = subprocess.run(
        ["bash", "-c", BEGINNING + script],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    text = done.stdout + done.stderr
    assert done.returncode == 0, text
    assert not UNEXPLAINED.search(text), text
    return done.stdout


def blocks(heading):
    """The commands under a heading of the README."""
    text = (ROOT / "README.md").read_text().split(f"## {heading}\n")[1].split("\n## ")[0]
    return "\n".join(re.findall(r"```\n(.*?)```", text, re.DOTALL))


@pytest.mark.long
def test_the_readme_works_as_it_stands_on_the_sample(tmp_path):
    (tmp_path / "data").symlink_to(ROOT / "data")
    own = blocks("Your own data in five steps").replace(". .venv/bin/activate", "")
    own = re.sub(r"^pip install.*$", "", own, flags=re.MULTILINE)
    text = follow(tmp_path, own)
    near = [line.split("\t") for line in text.splitlines() if line.count("\t") == 3]
    assert [rank for _, rank, _, _ in near[:5]] == ["1", "2", "3", "4", "5"]
    for made in ("run1/report.html", "vectors.parquet", "model/model.json"):
        assert (tmp_path / "work" / made).exists()
    follow(tmp_path, blocks("Keeping it fresh"))
    again = "vidembed search work/index --record data/youtube8m/validate0009.tfrecord -k 3 --run "
    assert follow(tmp_path, f"{again} work/run1 | head")  # rolled back to the first run's index


FOREIGN = """
vidembed cowatch watches.csv work/edges.parquet
vidembed train cdml --preset laptop --workdir work/run1 --corpus.table work/table \
    --corpus.edges work/edges.parquet --task.model.modalities clip sound
vidembed evaluate cdml --workdir work/run1
vidembed report cdml --workdir work/run1
vidembed index work/run1 work/table work/index
"""


@pytest.mark.long
def test_the_readme_works_on_foreign_data(tmp_path):
    """Other names and widths, a fifth without audio, UUIDs as ids, ISO times, semicolons."""
    rng = np.random.default_rng(0)
    videos, kinds, new = 600, 30, 20
    kind = rng.integers(0, kinds, videos + new)
    clip = rng.normal(size=(kinds, 512))[kind] + rng.normal(size=(videos + new, 512))
    clip = (clip / np.linalg.norm(clip, axis=1, keepdims=True)).astype(np.float32)
    sound = (rng.normal(size=(kinds, 64))[kind] + rng.normal(size=(len(kind), 64))) * 30
    ids = [str(uuid.UUID(bytes=rng.bytes(16))) for _ in kind]
    has_sound = rng.random(len(kind)) > 0.2
    table = {
        "item": ids,
        "clip": list(clip),
        "sound": [row.astype(np.float32) if has else None for row, has in zip(sound, has_sound)],
    }
    for name, part in (("videos", slice(None, videos)), ("new", slice(videos, None))):
        columns = {column: values[part] for column, values in table.items()}
        pq.write_table(pa.table(columns), tmp_path / f"{name}.parquet")
    lines = ["user_id;video_id;timestamp"]
    for user in range(3000):
        liked = np.flatnonzero(kind[:videos] == rng.integers(kinds))
        for number, video in enumerate(rng.choice(liked, 4)):
            time = f"2026-03-{1 + user % 28:02d}T{number + 8:02d}:{user % 60:02d}:00Z"
            lines.append(f"{user};{ids[video]};{time}")
    (tmp_path / "watches.csv").write_text("\n".join(lines) + "\n")
    found = follow(tmp_path, "vidembed inspect videos.parquet || true")
    [command] = re.findall(r"import it with: (python -m .+)", found)
    importing = command.replace("python -m ", "").replace(" TABLE", " work/table")
    follow(tmp_path, importing + FOREIGN)
    assert "--modalities" in importing  # which the search takes from the run
    search = "vidembed search work/index --record new.parquet --run work/run1 -k 3"
    near = [line.split("\t") for line in follow(tmp_path, search).splitlines() if "\t" in line]
    kinds_of = dict(zip(ids, kind.tolist()))
    assert {query for query, *_ in near} == set(ids[videos:])
    same = [kinds_of[query] == kinds_of[video] for query, _, video, _ in near]
    assert np.mean(same) > 0.5  # chance: 1/30

"""Records become a table, as a stage of a longer job."""

from pathlib import Path
from typing import Any

from experiments.stages import Stages
from vidembed.progress import Stage
from vidembed.records.importing import import_videos
from vidembed.records.shards import shards

SAMPLE = Path(__file__).resolve().parents[1] / "data" / "youtube8m"
"""Real YouTube-8M records, ten shards of 295 videos."""


def imported(stages: Stages, records: str, path: Path) -> Path:
    """The table at `path`, made from video-level records where it is missing."""
    files = [[file.name, file.stat().length] for file in shards(records)]

    def work(stage: Stage) -> dict[str, Any]:
        def tell(done: int, of: int, _: int) -> None:
            stage.update(done, of)

        return import_videos(records, path, progress=tell)

    found = stages.run("import", {"shards": files}, work, outputs=[path])
    stages.progress.say(f"  {found['rows']:,} videos")
    return path

"""ProViCo's tables: lists, rows, hand-computed cells, and the whole command (long)."""

import json
import re
from pathlib import Path

import numpy as np
import pytest

from experiments.clips import Gather, main
from experiments.clips_lists import Lists
from experiments.clips_rows import CLAIMS, INFO_NCE, PROVICO, at_rates, claims, decoded, rows
from experiments.clips_runs import Runs, Training
from experiments.clips_tables import gathered, tables
from experiments.moving_shapes import Shapes, write_shapes
from vidembed import files
from vidembed.corpora.clips import read_clips
from vidembed.corpora.frame_sources import StoredFrames
from vidembed.media.feature_store import FeatureStore, FrameFeatures

METRICS = ("r@1", "r@5", "r@10", "r@20", "r@50", "probe")


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """24 clips of two classes and 12 sources, 8 of them for training; features of 3 numbers."""
    folder = tmp_path_factory.mktemp("clips")
    store = FeatureStore(folder / "features", {"space": "numbers"})
    rng, lines = np.random.default_rng(0), ["path,class,group,split"]
    for source in range(12):
        for clip in range(2):
            name = f"s{source:02d}c{clip}"
            part = "train" if source < 8 else "test"
            lines.append(f"{name}.mp4,{'ab'[source % 2]},source{source},{part}")
            values = rng.normal(size=(12, 3)) + source % 2
            store.write(name, {}, FrameFeatures(np.arange(12) / 8, values))
            (folder / f"{name}.mp4").write_bytes(b"none")
    (folder / "split.csv").write_text("\n".join(lines))
    return folder, str(store.folder)


def opened(made, place, **options):
    folder, frames = made
    lists = Lists(str(folder / "split.csv"), place, share=0.25, seed=0)
    return lists, Runs(place, str(folder), frames, lists, Training(), pair=[0, 1], **options)


def test_lists_have_whole_sources_and_fewer_clips_are_nested(made, tmp_path):
    lists, _ = opened(made, tmp_path)
    given, final = read_clips(made[0] / "split.csv"), read_clips(lists.final)
    assert final.ids.tolist() == given.ids.tolist()
    assert final.part.tolist() == given.part.tolist()
    choosing = read_clips(lists.choosing)
    chosen = {*choosing.groups[choosing.part == "validation"]}
    assert len(chosen) == 2  # a quarter of the four sources of each class
    assert not chosen & {*choosing.groups[choosing.part != "validation"]}
    assert (choosing.part == "validation").sum() == 4
    few, more = (
        {*(of := read_clips(lists.fewer(count))).ids[of.part == "train"]} for count in (5, 9)
    )
    assert (len(few), len(more), few < more) == (5, 9, True)
    chosen_on = read_clips(lists.fewer(5, choosing=True))
    assert (chosen_on.part == "train").sum() == 5
    assert chosen_on.ids[chosen_on.part == "validation"].tolist() == (
        choosing.ids[choosing.part == "validation"].tolist()
    )
    with pytest.raises(ValueError, match="40 of 16 train clips"):
        lists.fewer(40)


def test_rows_are_distinct_and_claims_are_of_rows():
    every = list(rows((60,)))
    keys = [row.key for row in every]
    assert len({*keys}) == len(keys)
    assert {row.beside for row in every} <= {*keys, ""}
    compared = {key for _, *pair in CLAIMS for key in pair}
    untrained = {row.untrained for row in every}
    assert {key for key in compared - untrained if key[:4] not in ("raw ", "rate")} <= {*keys}
    assert [row.key for row in decoded()] == [INFO_NCE, PROVICO]
    others = at_rates((0.1, 0.2), {INFO_NCE: 0.1, PROVICO: 0.2})
    assert [(row.key, row.rate, row.beside) for row in others] == [
        ("rate 0.1, provico", 0.1, INFO_NCE),
        ("rate 0.2, info-nce", 0.2, "rate 0.2, info-nce"),
    ]


@pytest.mark.parametrize("chosen", [(1e-2, 1e-3), (1e-4, 1e-2), (1e-3, 1e-3)])
def test_systems_are_compared_at_equal_rates(chosen):
    rates = dict(zip((INFO_NCE, PROVICO), chosen))
    for row in at_rates((1e-4, 1e-3, 1e-2), rates):
        rates[row.key] = row.rate
    equal = [claim for claim in claims(rates) if claim not in CLAIMS]
    assert len(equal) == 3 - (chosen[0] == chosen[1])  # the first claim says it
    for claim, one, other in equal:
        assert rates[one] == rates[other] == float(claim.split()[-1])


def test_tables_are_means_over_seeds_and_paired_differences(made, tmp_path):
    _, runs = opened(made, tmp_path)
    values = {
        (INFO_NCE, 0): [1, 0, 0, 0, 1, 0, 0, 0], (INFO_NCE, 1): [1, 1, 0, 0, 1, 0, 0, 0],
        (PROVICO, 0): [1, 1, 1, 1, 1, 1, 1, 1], (PROVICO, 1): [1, 0, 0, 0, 0, 0, 0, 0],
    }  # fmt: skip
    for (key, seed), of in values.items():
        numbers = [float(value) for value in of]
        every = dict.fromkeys(METRICS, numbers)
        about = {"seconds": 2.0, "within": 0.1, "between": 0.2}
        note = runs.note(key, seed)
        note.parent.mkdir(exist_ok=True)
        stored = {"clips": every, "source": {"same_source": numbers}, "pair": every}
        files.write_json(note, stored | {"about": about})
    chosen = [row for row in rows(()) if row.key in (INFO_NCE, PROVICO, "point")]
    result = gathered(runs, chosen, (0, 1), {PROVICO: 0.01})
    assert result["scores"][INFO_NCE]["r@1"] == [0.25, 0.375]
    assert result["lacking"] == ["a point"]
    minus = result["minus_deterministic"][PROVICO]
    assert minus["r@1"]["value"] == pytest.approx((1 + 0.125) / 2 - (0.25 + 0.375) / 2)
    # A source has two neighbouring clips; their mean differences over both seeds, by hand.
    sources = np.array([(0 + 0) / 2, (0.5 + 0.5) / 2, (-0.5 + 0.5) / 2, (0.5 + 0.5) / 2])
    sources[0] = np.mean([1 - 1, 0.5 - 0.5])
    assert minus["probe"]["value"] == pytest.approx(sources.mean())
    drawn = np.random.default_rng(0).integers(0, 4, (1000, 4))
    low, high = np.quantile(sources[drawn].mean(axis=1), [0.025, 0.975])
    assert minus["r@1"]["low"] == pytest.approx(low)
    assert minus["r@1"]["high"] == pytest.approx(high)
    (scores, differences, claims) = tables(result)
    assert scores[2][1][:3] == ["systems", "ProViCo", "0.562 ± 0.438"]
    assert scores[2][1][-1] == "0.01"
    assert [line[0] for line in differences[2]] == ["ProViCo"]
    assert claims[2][0][:3] == ["ProViCo above InfoNCE", "ProViCo", "InfoNCE of two halves"]


def test_raw_motion_is_the_mean_absolute_difference(made, tmp_path):
    lists, runs = opened(made, tmp_path)
    frames = StoredFrames.open(made[1], ("s03c1",)).read(0)
    row = lists.clips.ids.tolist().index(b"s03c1")
    motion = np.abs(np.diff(frames, axis=0)).mean(axis=0)
    np.testing.assert_allclose(runs.raw("motion")[row], motion, rtol=1e-5)
    parts = frames.mean(axis=0), motion
    both = np.concatenate([part / np.linalg.norm(part) for part in parts])
    np.testing.assert_allclose(runs.raw("both")[row], both, rtol=1e-5)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ((), "give --frames FEATURES/BACKBONE-DIGEST, or else --decoded"),
        (("--decoded", "--pair", "a", "c"), "--pair takes two of a, b"),
        (("--decoded", "--only", "gcml"), r"--only has \['gcml'\]; choose from info-nce, provico"),
    ],
)
def test_bad_options_are_refused(made, tmp_path, capsys, options, words):
    given = ["--folder", str(made[0]), "--clips", str(made[0] / "split.csv")]
    assert main(["gather", "--workdir", str(tmp_path), *given, *options]) == 1
    assert re.search(words, "".join(capsys.readouterr()))


def test_fewer_train_clips_than_are_left_while_choosing(made, tmp_path):
    folder, frames = made
    lists, _ = opened(made, tmp_path)  # 16 for training, of which 4 are for validation
    given = Gather(
        workdir=str(tmp_path), folder=str(folder), clips="", frames=frames, videos=(12, 13)
    )
    counts = {row.videos for row in given._rows(lists)}
    assert counts == {0, 12}


@pytest.mark.parametrize("rates", [(0.0,), (1e-3, 1e-3), ()])
def test_bad_rates_are_refused(rates):
    with pytest.raises(ValueError, match="rates must be distinct and above 0"):
        Gather(workdir="W", folder="F", clips="C", rates=rates)


@pytest.mark.long
def test_the_command_on_simulated_clips(tmp_path):
    folder = tmp_path / "shapes"
    listed = write_shapes(folder, Shapes(groups=6, frames=12, height=32, width=32))
    store = FeatureStore(tmp_path / "features", {"space": "numbers"})
    rng = np.random.default_rng(0)
    for name in read_clips(listed).ids.astype(str):
        store.write(name, {}, FrameFeatures(np.arange(12) / 12, rng.normal(size=(12, 6))))
    given = ["--folder", str(folder), "--clips", str(listed), "--seeds", "0"]
    small = ["--training.steps", "3", "--training.batch-videos", "8", "--training.size", "8"]
    small += ["--training.windows", "2", "--training.frames", "4", "--training.embedded", "2"]
    frames = ["--frames", str(store.folder), "--pair", "left", "right"]
    rows = [INFO_NCE, PROVICO, "tau-fixed", "both, provico", "9, provico"]
    only = ["--videos", "9", "--only", *rows]
    work = tmp_path / "windows"
    given += small
    frames += ["--rates", "1e-3", "1e-2"]
    assert main(["run", "--workdir", str(work), *given, *frames, *only]) == 0
    result = json.loads((work / "clips.json").read_text())
    assert result["simulated"]
    assert result["lacking"] == []
    assert {*map(float, ("1e-3", "1e-2"))} >= {result["rates"][row] for row in rows}
    assert {path.name for path in (work / "choosing").iterdir()} == {*rows}
    chosen_on = json.loads((work / "choosing" / "9, provico" / "0.001" / "recipe.json").read_text())
    assert chosen_on["recipe"]["corpus"]["clips"].endswith("choosing-9.csv")
    assert {"raw both", "untrained heads", "tau-fixed", "chance"} <= {*result["scores"]}
    text = (work / "clips.md").read_text()
    assert text.startswith("**SIMULATED clips. Test clips")
    before = {path: path.stat().st_mtime_ns for path in work.rglob("*") if path.is_file()}
    assert main(["gather", "--workdir", str(work), *given, *frames, *only]) == 0
    changed = {path.name for path, at in before.items() if path.stat().st_mtime_ns != at}
    assert changed == {"clips.json", "clips.md"}
    assert (work / "clips.md").read_text() == text
    work = tmp_path / "decoded"
    narrow = ["--training.width", "0.0625", "--rates", "1e-3", "--decoded"]
    assert main(["run", "--workdir", str(work), *given, *narrow]) == 0
    result = json.loads(Path(work / "clips.json").read_text())
    assert {"raw pixels", "colour histogram", "untrained network"} <= {*result["scores"]}
    assert "Decoded clips, a test of plumbing" in (work / "clips.md").read_text()

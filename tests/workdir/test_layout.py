import json
import time

import pytest

from vidembed import files
from vidembed.workdir.differences import as_typed, differences
from vidembed.workdir.layout import RecipeChangedError, Workdir
from vidembed.workdir.lease import LeaseHeldError
from vidembed.workdir.measurements import FOLLOWER_STALE_SECONDS

RECIPE = {
    "task": {"miner": {"class": "SemiHard", "margin": 0.3}, "widths": (4000, 256)},
    "steps": 100,
}
DATA = {"table": "aa11", "graph": "bb22"}


def _changed(**changes):
    recipe = json.loads(json.dumps(RECIPE))
    for path, value in changes.items():
        *above, last = path.split("__")
        place = recipe
        for name in above:
            place = place[name]
        place[last] = value
    return recipe


def test_layout(tmp_path):
    workdir = Workdir(tmp_path / "run")
    workdir.create()
    assert sorted(path.name for path in (tmp_path / "run").iterdir()) == [
        "checkpoints",
        "evaluation",
    ]
    assert workdir.recipe_file.name == "recipe.json"
    assert workdir.metrics_file.name == "metrics.jsonl"
    assert workdir.done_file.name == "DONE"
    assert workdir.report_file.name == "report.html"
    assert str(workdir) == str(tmp_path / "run")


def test_one_run_at_a_time(tmp_path):
    workdir = Workdir(tmp_path / "run")
    with workdir.lease() as lease:
        lease.check()
        assert workdir.lease_file.exists()
        with (
            pytest.raises(LeaseHeldError, match=r"in use by process \d+"),
            Workdir(workdir.path).lease(),
        ):
            pytest.fail("two runs")
        assert workdir.lease_file.exists()
    assert not workdir.lease_file.exists()


def test_the_first_run_stores_its_recipe_and_the_same_recipe_is_accepted(tmp_path):
    workdir = Workdir(tmp_path)
    assert workdir.read_recipe() is None
    assert workdir.claim_recipe(RECIPE, DATA) == []
    assert workdir.claim_recipe(RECIPE, DATA) == []
    assert workdir.claim_recipe(json.loads(json.dumps(RECIPE)), DATA) == []
    stored = workdir.read_recipe()
    assert stored["recipe"] == json.loads(json.dumps(RECIPE))
    assert stored["fingerprints"] == DATA
    assert stored["history"] == []


FROZEN = [
    (_changed(task__miner__margin=0.2), DATA, ["--task.miner.margin: stored 0.3, given 0.2"]),
    (_changed(task__widths=[4000, 128]), DATA, ["--task.widths: stored 4000 256, given 4000 128"]),
    (_changed(task__widths=[256]), DATA, ["--task.widths: stored 4000 256, given 256"]),
    (
        _changed(task__miner={"class": "Hardest"}),
        DATA,
        ["task.miner: stored semi-hard, given hardest"],
    ),
    (_changed(task__new=None), DATA, ["--task.new: stored (absent), given None"]),
    (_changed(stepsize=1, steps=100), DATA, ["--stepsize: stored (absent), given 1"]),
    (RECIPE, {**DATA, "graph": "cc33"}, ["data, graph: stored bb22, given cc33"]),
    (RECIPE, {"table": "aa11"}, ["data, graph: stored bb22, given (absent)"]),
    (_changed(task__miner__margin=True), DATA, ["--task.miner.margin: stored 0.3, given true"]),
]


@pytest.mark.parametrize(("recipe", "data", "lines"), FROZEN)
def test_frozen_fields_refuse_with_a_diff(tmp_path, recipe, data, lines):
    workdir = Workdir(tmp_path)
    workdir.claim_recipe(RECIPE, DATA)
    before = workdir.recipe_file.read_text()
    with pytest.raises(RecipeChangedError) as refusal:
        workdir.claim_recipe(recipe, data, tunable={"steps", "log"})
    words = str(refusal.value).splitlines()
    assert [line.strip() for line in words[1:-1]] == lines
    assert str(tmp_path) in words[0]
    assert "another --workdir" in words[-1]
    assert workdir.recipe_file.read_text() == before


def test_true_is_not_one(tmp_path):
    workdir = Workdir(tmp_path)
    workdir.claim_recipe({"a": 1, "b": 2.0}, {})
    assert workdir.claim_recipe({"a": 1.0, "b": 2}, {}) == []
    with pytest.raises(RecipeChangedError, match="a: stored 1, given true"):
        workdir.claim_recipe({"a": True, "b": 2}, {})


def test_a_recipe_is_compared_without_being_claimed(tmp_path):
    workdir = Workdir(tmp_path)
    assert workdir.recipe_changes(RECIPE) == []
    assert workdir.read_recipe() is None
    workdir.claim_recipe(RECIPE, DATA)
    before = workdir.recipe_file.read_text()
    longer = _changed(steps=300)
    assert workdir.recipe_changes(longer, tunable={"steps"}) == ["steps: 100 -> 300"]
    with pytest.raises(RecipeChangedError, match="--steps: stored 100, given 300"):
        workdir.recipe_changes(longer)
    assert workdir.recipe_file.read_text() == before


def test_tunable_fields_change_and_are_recorded(tmp_path):
    workdir = Workdir(tmp_path)
    workdir.claim_recipe(RECIPE, DATA)
    tunable = {"steps", "task.miner"}
    changed = _changed(steps=300, task__miner__margin=0.1)
    assert workdir.claim_recipe(changed, DATA, tunable=tunable) == [
        "task.miner.margin: 0.3 -> 0.1",
        "steps: 100 -> 300",
    ]
    assert workdir.claim_recipe(changed, DATA, tunable=tunable) == []
    again = _changed(steps=400, task__miner__margin=0.1)
    workdir.claim_recipe(again, DATA, tunable=tunable)
    stored = workdir.read_recipe()
    assert stored["recipe"] == again
    assert [entry["changes"] for entry in stored["history"]] == [
        ["task.miner.margin: 0.3 -> 0.1", "steps: 100 -> 300"],
        ["steps: 300 -> 400"],
    ]


def test_a_recipe_records_the_code_that_started_and_changed_it(tmp_path, monkeypatch):
    workdir = Workdir(tmp_path)
    for commit, steps in (("aa", 100), ("bb", 100), ("cc", 300)):
        monkeypatch.setattr(
            "vidembed.workdir.versions.commit_of", lambda _, c=commit: {"commit": c}
        )
        workdir.claim_recipe(_changed(steps=steps), DATA, tunable={"steps"})
    stored = workdir.read_recipe()
    assert stored["versions"]["commit"] == "aa"
    assert [entry["versions"]["commit"] for entry in stored["history"]] == ["cc"]


def _measured(workdir, evaluator, steps):
    measurements = workdir.measurements(evaluator)
    for step in steps:
        measurements.write(step, {"step": step, "scores": {}}, {})
    return measurements


FIRST = {"class": "RelatedVideos", "ks": [10], "seed": 0}
SECOND = {"class": "RelatedVideos", "ks": [10, 100], "seed": 0}


def test_the_best_of_each_evaluator_is_pinned(tmp_path):
    workdir = Workdir(tmp_path)
    assert workdir.pinned() == set()
    first, second = workdir.measurements(FIRST), workdir.measurements(SECOND)
    assert first.best() is None
    first.pin(100, "ndcg@10", 0.2)
    second.pin(50, "ndcg@10", 0.9)
    first.pin(200, "ndcg@10", 0.3)
    assert first.best() == {"step": 200, "metric": "ndcg@10", "value": 0.3}
    assert second.best()["step"] == 50
    assert workdir.pinned() == {50, 200}


def test_each_evaluator_has_its_own_folder(tmp_path):
    workdir = Workdir(tmp_path)
    assert workdir.all_measurements() == []
    first, second = _measured(workdir, FIRST, [5]), _measured(workdir, SECOND, [5, 10])
    assert first.folder != second.folder
    # Tuples or lists, and the order of fields, make no difference.
    again = workdir.measurements({"seed": 0, "ks": (10,), "class": "RelatedVideos"})
    assert again.folder == first.folder
    assert first.folder.name.startswith("RelatedVideos-")
    (tmp_path / "evaluation" / "10.json").write_text("{}")  # belongs to no evaluator
    steps = {m.folder.name: m.steps() for m in workdir.all_measurements()}
    assert steps == {first.folder.name: {5}, second.folder.name: {5, 10}}
    assert second.read(10) == {"step": 10, "scores": {}}
    assert first.read(10) is None


@pytest.mark.fault("Runs: a run extended while a follower starts")
def test_done_counts_for_the_steps_of_the_stored_recipe(tmp_path):
    workdir = Workdir(tmp_path)
    assert workdir.done() is None
    workdir.claim_recipe(RECIPE, DATA)
    workdir.mark_done(100)
    assert workdir.done() == 100
    workdir.claim_recipe(_changed(steps=300), DATA, tunable={"steps"})
    assert workdir.done() is None
    workdir.mark_done(300)
    assert workdir.done() == 300
    workdir.clear_done()
    workdir.clear_done()
    assert workdir.done() is None


def test_measured_steps_matter_while_a_follower_is_attached(tmp_path):
    workdir = Workdir(tmp_path)
    measurements = workdir.measurements(FIRST)
    assert measurements.steps() == set()
    assert workdir.awaited_measurements() is None
    with measurements.attach_follower():
        assert workdir.awaited_measurements() == set()
        _measured(workdir, FIRST, [10, 20])
        measurements.pin(20, "map", 0.1)
        assert workdir.awaited_measurements() == {10, 20}
    assert measurements.steps() == {10, 20}
    assert workdir.awaited_measurements() is None


def test_every_attached_evaluator_is_awaited(tmp_path):
    workdir = Workdir(tmp_path)
    first, second = _measured(workdir, FIRST, [10, 20]), _measured(workdir, SECOND, [20, 30])
    with first.attach_follower():
        # Results of another evaluator do not count.
        assert workdir.awaited_measurements() == {10, 20}
        with second.attach_follower():
            assert workdir.awaited_measurements() == {20}
        assert workdir.awaited_measurements() == {10, 20}


def test_a_killed_follower_is_awaited_for_a_while(tmp_path):
    workdir = Workdir(tmp_path)
    measurements = workdir.measurements(FIRST)
    file = measurements.folder / "follower.json"
    with measurements.attach_follower():
        record = files.read_json(file)
    for silent, awaited in (
        (FOLLOWER_STALE_SECONDS - 60, set()),
        (FOLLOWER_STALE_SECONDS + 1, None),
    ):
        record["beat"] = time.time() - silent
        files.write_json(file, record)
        assert workdir.awaited_measurements() == awaited


def test_a_follower_beats_and_leaves_anothers_record(tmp_path, monkeypatch):
    monkeypatch.setattr("vidembed.workdir.measurements._FOLLOWER_BEAT_SECONDS", 0.02)
    workdir = Workdir(tmp_path)
    measurements = workdir.measurements(FIRST)
    file = measurements.folder / "follower.json"
    with measurements.attach_follower():
        first = files.read_json(file)
        time.sleep(0.2)
        assert files.read_json(file)["beat"] > first["beat"]
        monkeypatch.setattr("vidembed.files.write_json", lambda *_: None)
        time.sleep(0.1)
        file.write_text(json.dumps({**first, "pid": 1}))
    assert files.read_json(file)["pid"] == 1


@pytest.mark.parametrize("part", ["recipe", "fingerprints", "spec", "space"])
@pytest.mark.parametrize("value", [None, 3, []])
def test_a_recipe_file_whose_parts_are_not_objects_is_damaged(tmp_path, part, value):
    workdir = Workdir(tmp_path)
    workdir.claim_recipe({"steps": 3}, {"corpus": "c"}, {"spec": {}, "space": {}})
    stored = json.loads(workdir.recipe_file.read_text())
    workdir.recipe_file.write_text(json.dumps(stored | {part: value}))
    with pytest.raises(
        ValueError, match=r"recipe.json is damaged: one of recipe, .* is not an object"
    ):
        workdir.read_recipe()


def test_of_a_part_of_another_class_only_the_class_is_reported():
    stored = {"task": {"class": "m:OldTask", "loss": {"class": "m:Hinge", "margin": 1}}, "seed": 1}
    given = {"task": {"class": "m:NewTask", "loss": {"class": "m:Log", "margin": 2}}, "seed": 2}
    assert as_typed(differences(stored, given)) == [
        "task: stored old-task, given new-task",
        "--seed: stored 1, given 2",
    ]

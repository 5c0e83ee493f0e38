import io
import time
from datetime import datetime

import pytest
import rich.console

from vidembed.progress import Progress, ends_in


@pytest.fixture
def clock(monkeypatch):
    now = [1000.0]
    monkeypatch.setattr("time.monotonic", lambda: now[0])
    return now


def _plain(**options):
    out = io.StringIO()
    return out, Progress(console=rich.console.Console(file=out, width=80), **options)


def test_plain_lines_come_at_a_bounded_rate(clock):
    out, progress = _plain(line_seconds=10)
    with progress.stage("importing", 1000, "records") as stage:
        for done in range(20, 1001, 20):
            clock[0] += 1
            stage.update(done)
    lines = out.getvalue().splitlines()
    assert lines == [
        "importing ...",
        "importing: 200 of 1,000 records, 10 s",
        "importing: 400 of 1,000 records, 20 s",
        "importing: 600 of 1,000 records, 30 s",
        "importing: 800 of 1,000 records, 40 s",
        "importing: 1,000 of 1,000 records, 50 s",
        "importing: 1,000 of 1,000 records, 50.0 s",
    ]


def test_unknown_totals_notes_and_lines_on_demand(clock):
    out, progress = _plain(line_seconds=10)
    with progress.stage("reading") as stage:
        stage.update(5, note="half", show=True)
        stage.update(7, 9)
        clock[0] += 10
        stage.update(8)
        clock[0] += 1.25
    assert out.getvalue().splitlines() == [
        "reading ...",
        "reading: 5, half",
        "reading: 8 of 9, 10 s",
        "reading: 8 of 9, 11.2 s",
    ]


def test_a_stage_without_counts_prints_its_seconds(clock):
    out, progress = _plain()
    with progress.stage("compiling"):
        clock[0] += 2
    assert out.getvalue().splitlines() == ["compiling ...", "compiling: 2.0 s"]


def test_a_failed_stage_is_reported(clock):
    out, progress = _plain()
    with pytest.raises(ZeroDivisionError), progress.stage("dividing"):
        _ = 1 / (clock.append(clock.pop() + 3) or 0)
    assert out.getvalue().splitlines() == ["dividing ...", "dividing: stopped after 3.0 s"]


def test_remarks_are_printed_as_they_are():
    out, progress = _plain()
    progress.say("a [bold]b[/bold] [0.1, 0.2] " + "long " * 30)
    assert out.getvalue() == "a [bold]b[/bold] [0.1, 0.2] " + "long " * 30 + "\n"


def test_bars_on_a_terminal():
    out = io.StringIO()
    console = rich.console.Console(file=out, width=120, force_terminal=True)
    progress = Progress(console=console)
    with progress.stage("outer [x]", 10) as outer:
        outer.update(3, note="loss 0.5")
        with progress.stage("inner", 7) as inner:
            inner.update(7)
            progress._live.refresh()
        progress.say("a remark")
    shown = out.getvalue()
    for words in ("outer [x]", "3/10", "loss 0.5", "7/7", "a remark", "0:00:00"):
        assert words in shown
    assert "inner: 7 of 7, " in shown
    assert progress._live is None
    with pytest.raises(ZeroDivisionError), progress.stage("again", 2):
        _ = 1 / 0
    assert progress._live is None


def test_quiet():
    progress = Progress(quiet=True)
    progress.console.file = out = io.StringIO()
    with progress.stage("a", 3) as stage:
        stage.update(1)
        progress.say("b")
    assert out.getvalue() == ""


def test_estimated_end():
    words = ends_in(3723.4)
    assert words.startswith("1:02:03 (")
    assert datetime.strptime(words[9:-1], "%H:%M")


def test_silence_in_a_stage_ends_after_a_while():
    out, progress = _plain(heartbeat_seconds=0.02)
    with progress.stage("training", 9, "steps") as stage:
        stage.done = 2
        with progress.stage("compiling"):
            _wait_for(out, "compiling: 0 s so far\n")
        _wait_for(out, "training: 2 of 9 steps, 0 s so far\n")
    beat = out.getvalue()
    time.sleep(0.06)
    assert out.getvalue() == beat


def _wait_for(out, words):
    deadline = time.monotonic() + 10
    while words not in out.getvalue():
        assert time.monotonic() < deadline, out.getvalue()
        time.sleep(0.005)

"""The report of an annotation run, against its evaluation file and against slow computations."""

import json
import re
import shutil
from html import unescape

import numpy as np
import pytest
from sklearn.metrics import average_precision_score

from tests.report.test_page import Page
from tests.tasks.test_annotation import CLASSES, labelled, paths, probabilities, table, trained
from vidembed.__main__ import main
from vidembed.cli.run_sections import sections

__all__ = ["labelled", "paths", "table", "trained"]
NAMES = ["Game", "Guitar", "Dance", "Food", "Pet"]
FEW = ("--evaluator.resamples", "40")
VERTICALS = ["Games", "Arts", "Arts", "Food", ""]


@pytest.fixture(scope="module")
def evaluated(trained, tmp_path_factory):
    """The run with its last checkpoint measured."""
    path = tmp_path_factory.mktemp("evaluated") / "run"
    shutil.copytree(trained, path)
    assert main(["evaluate", "annotation", "--workdir", str(path), *FEW]) == 0
    return path


@pytest.fixture(scope="module")
def page(evaluated):
    """The page of the measured run, as text."""
    lines = [f"{n},{name},{kind}" for n, (name, kind) in enumerate(zip(NAMES, VERTICALS))]
    vocabulary = evaluated.parent / "vocabulary.csv"
    vocabulary.write_text("\n".join(["Index,Name,Vertical1", *lines]))
    options = ["--vocabulary", str(vocabulary), "--url-template", "https://example.com/{id}"]
    return written(evaluated, *options)


def written(path, *options):
    assert main(["report", "annotation", "--workdir", str(path), *FEW, *options]) == 0
    html = (path / "report.html").read_text(encoding="ascii")
    Page(html)  # tags nest
    return unescape(html)


def measured(path, name="12"):
    [file] = path.glob(f"evaluation/*/{name}.json")
    return json.loads(file.read_text())


def table_of(page, caption):
    """The rows of the table with this caption: its name → the text of its cells."""
    text = re.search(rf"<figcaption>{caption} .*?</table>", page, re.S)[0]
    rows = re.findall(r"<tr>(.*?)</tr>", text[text.index("<tbody>") :], re.S)
    cells = [re.findall(r"<t[hd][^>]*>(.*?)</t[hd]>", row, re.S) for row in rows]
    return {name: [" ".join(cell.split()) for cell in row] for name, *row in cells}


def shown(score):
    return f"{score['value']:.3f} <small>{score['low']:.3f}–{score['high']:.3f}</small>"


def truth(labelled, rows):
    return np.array([[c in labelled.labels.of(np.array([r])).values for c in range(CLASSES)]
                     for r in rows])  # fmt: skip


def test_the_scores_are_those_of_the_evaluation_and_its_baselines(evaluated, page):
    result, systems = measured(evaluated), measured(evaluated, "baselines")["systems"]
    for part, name in [("test", "test"), ("validation", "validation"),
                       ("all_held_out", "all held out")]:  # fmt: skip
        rows = table_of(page, f"All metrics, {name}")
        assert list(rows) == ["trained", "popularity", "chance"]
        for system, scores in {"trained": result["scores"], **systems}.items():
            expected = [shown(score) for key, score in scores.items() if key.startswith(part)]
            assert len(expected) == 7
            assert rows[system] == expected
        [(step, cells)] = table_of(page, f"run, {name}").items()
        assert (step, cells) == ("12", rows["trained"])
    tiles = re.findall(r'class="value">(.*?)</dd><dt>(.*?)</dt>', page)
    assert tiles == [
        (f"{result['scores'][f'test/{metric}']['value']:.3f}", f"{name}, test")
        for metric, name in [("gap@20", "GAP@20"), ("map_per_class", "MAP per class"),
                             ("hit@1", "Hit@1"), ("perr", "PERR")]
    ]  # fmt: skip
    assert f"validation {result['scores']['validation/gap@20']['value']:.3f}, all held" in page
    assert f"popularity {systems['popularity']['test/gap@20']['value']:.3f}, chance" in page
    assert "The best is chosen by the GAP@20 on validation." in page
    for heading in ("Map of the embedding", "Nearest neighbours", "relations"):
        assert heading not in page.replace("<pre>", "")


def test_the_calibration_counts_each_prediction_in_its_bin(evaluated, labelled, page):
    rows = np.flatnonzero(labelled.is_test & labelled.has_labels)
    predicted = probabilities(evaluated, labelled.table)[rows].reshape(-1).astype(np.float64)
    true = truth(labelled, rows).reshape(-1)
    error, expected = 0.0, {}
    for begin in range(20):
        inside = np.floor(np.minimum(predicted * 20, 19)) == begin
        if inside.any():
            mean, share = predicted[inside].mean(), true[inside].mean()
            error += inside.mean() * abs(mean - share)
            cells = [f"{inside.sum():,}", f"{mean:.3f}", f"{share:.3f}"]
            # All classes are among the 20 best of each video.
            expected[f"{begin / 20:.2f}–{(begin + 1) / 20:.2f}"] = cells * 2
    assert table_of(page, "Predictions by probability") == expected
    errors = table_of(page, "Expected calibration error")
    assert errors["all classes"] == [f"{len(predicted):,}", f"{error:.5f}"]
    assert '<svg viewBox' in page[page.index("Reliability:") :]  # fmt: skip


def test_classes_and_verticals_have_their_own_scores(evaluated, labelled, page):
    rows = np.flatnonzero(labelled.is_test & labelled.has_labels)
    predicted, true = probabilities(evaluated, labelled.table), truth(labelled, rows)
    train = truth(labelled, labelled.train_rows).sum(axis=0)
    classes = table_of(page, f"The {CLASSES} most frequent classes")
    assert list(classes) == [NAMES[c] for c in np.argsort(-train, kind="stable")]
    for c, name in enumerate(NAMES):
        precision = average_precision_score(true[:, c], predicted[rows, c])
        assert classes[name][:3] == [str(train[c]), str(true[:, c].sum()), f"{precision:.3f}"]
    hits = true[np.arange(len(rows)), predicted[rows].argmax(axis=1)]
    first = true.argmax(axis=1)
    slices = table_of(page, "By slice, test")
    for vertical in ("Games", "Arts", "Food", ""):
        inside = np.array([VERTICALS[c] == vertical for c in first])
        cells = slices[f"vertical: {vertical}" if vertical else "vertical: no vertical"]
        assert cells[0] == str(inside.sum())
        assert cells[1].startswith(f"{hits[inside].mean():.3f} ")


def test_the_examples_are_test_videos_with_their_best_and_true_labels(evaluated, labelled, page):
    predicted = probabilities(evaluated, labelled.table)
    entries = re.findall(r'<li class="video">(.*?)</ul>', page, re.S)
    assert len(entries) == 12
    for entry in entries:
        name = re.search(r'<a href="https://example.com/(\w+)"', entry)[1]
        [row] = labelled.table.find(np.array([name.encode()]))
        assert labelled.is_test[row]
        lines = re.findall(r"<b>(.*?)</b> <span>(\w+)(.*?)</span></li>", entry)
        best = np.argsort(-predicted[row])
        [true] = truth(labelled, [row])
        assert lines == [
            (f"{predicted[row, c]:.3f}", NAMES[c], lines[place][2]) for place, c in enumerate(best)
        ]
        assert [("✓" in mark) for *_, mark in lines] == true[best].tolist()


def test_without_evaluation_the_page_says_how_to_measure(trained, tmp_path, capsys):
    shutil.copytree(trained, tmp_path / "run")
    page = written(tmp_path / "run")
    assert "No evaluation yet" in page
    assert f"evaluate --workdir {tmp_path / 'run'}" in page
    assert "nothing is evaluated yet" in capsys.readouterr().out
    assert page.count('<li class="video">') == 12
    assert "<span>label 0" in page
    assert "Calibration" not in page
    assert "share of the labels outside train" in page


@pytest.mark.fault(
    "Runs: a report of a run with neither related videos nor labels",
    "refused: what the report needs, the run's outputs, its corpus",
)
def test_a_run_without_anything_to_show_is_refused(labelled, corpus):
    for outputs, data in [({"labels": None}, corpus), ({"video": None}, labelled), ({}, labelled)]:
        with pytest.raises(ValueError, match=rf"the outputs .* and a {type(data).__name__}"):
            sections(outputs, data, None, {}, measured=False)

"""What variances tell: each measure against loops on made arrays; the command on tiny runs."""

import csv
import json
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments import uncertainty_measures as measures
from experiments.clips_uncertainty import main
from experiments.moving_shapes import Shapes, write_shapes
from experiments.uncertainty_averages import Measuring
from experiments.uncertainty_measures import KINDS, Videos
from experiments.uncertainty_runs import Trained, _mined
from tests.losses.made_mixtures import on
from vidembed.__main__ import main as vidembed
from vidembed.engine.model import load_model
from vidembed.evaluators.probe import Probe
from vidembed.losses.stochastic_contrast import StochasticContrast
from vidembed.losses.thresholds import Quantile
from vidembed.media.feature_store import FeatureStore, FrameFeatures
from vidembed.metrics.intervals import bootstrap, times_drawn
from vidembed.models.gaussian_heads import GaussianHeads
from vidembed.tasks.clips import ProbabilisticVideos
from vidembed.tasks.spec import Spec
from vidembed.workdir.layout import Workdir


@pytest.fixture
def random():
    return np.random.default_rng(0)


def slow_area(values, positive):
    wins = [
        1.0 if one > other else 0.5 if one == other else 0.0
        for one in values[positive]
        for other in values[~positive]
    ]
    return np.mean(wins)


def test_statistics_of_weights_are_those_of_repeated_queries(random):
    values, others = random.integers(0, 5, 30).astype(float), random.random(30)
    positive, weights = random.random(30) < 0.4, random.integers(0, 4, (6, 30))
    statistics = {
        measures.mean_of(values, positive): lambda r: values[r][positive[r]].mean(),
        measures.mean_of(values): lambda r: values[r].mean(),
        measures.ratio(values, others): lambda r: values[r].sum() / others[r].sum(),
        measures.difference(values, positive, ~positive): lambda r: (
            values[r][positive[r]].mean() - values[r][~positive[r]].mean()
        ),
        measures.area(values, positive): lambda r: slow_area(values[r], positive[r]),
    }
    for fast, slow in statistics.items():
        drawn = fast(weights.astype(float))
        repeated = [slow(np.repeat(np.arange(30), times)) for times in weights]
        np.testing.assert_allclose(drawn, repeated, rtol=1e-12)


def test_intervals_resample_sources_for_all_runs_alike(random):
    values, sources = random.random((2, 20)), random.integers(0, 7, 20)
    fast = measures.interval(
        [measures.mean_of(of) for of in values], [sources] * 2, seed=3, resamples=200
    )
    expected = bootstrap([{"x": of} for of in values], videos=[sources] * 2, seed=3, resamples=200)[
        "x"
    ]
    np.testing.assert_allclose(fast, expected, rtol=1e-12)
    positive = random.random(20) < 0.5
    area = measures.interval([measures.area(values[0], positive)], [sources], resamples=50)
    drawn = []
    numbers = np.unique(sources, return_inverse=True)[1]
    for times in np.concatenate([*times_drawn(numbers.max() + 1, seed=0, resamples=50)]):
        rows = np.repeat(np.arange(20), times[numbers])
        if 0 < positive[rows].sum() < len(rows):
            drawn.append(slow_area(values[0][rows], positive[rows]))
    assert area.value == pytest.approx(slow_area(values[0], positive))
    np.testing.assert_allclose(area[1:], np.quantile(drawn, [0.025, 0.975]))
    empty = measures.interval([measures.mean_of(values[0], values[0] > 2)], [sources])
    assert measures.as_json(empty) == {"value": None, "low": None, "high": None}


def test_quantiles_are_equal_parts_of_each_stratum(random):
    values, strata = random.normal(size=52), np.repeat([5, 2, 9], [20, 20, 12])
    parts = measures.quantiles(values, strata, 4)
    for stratum in (5, 2, 9):
        rows = np.flatnonzero(strata == stratum)
        order = rows[np.argsort(values[rows])]
        for part, some in enumerate(np.split(order, 4)):
            assert (parts[some] == part).all()
    assert set(measures.quantiles(np.zeros(8), np.zeros(8), 4)) == {2}  # equal values stay together


def test_strata_are_of_one_number_of_windows_and_of_near_lengths():
    lengths, windows = np.arange(40), np.repeat([4, 4, 4, 2], 10)
    strata = measures.of_length(lengths, windows, 4)
    expected = [f"{length // 10} {w}" for length, w in zip(lengths, windows)]
    assert len({*zip(strata.tolist(), expected)}) == len(set(expected)) == 4
    alike = measures.of_length(np.full(6, 24), np.array([1, 2, 2, 1, 2, 2]), 5)
    assert alike.tolist() == [0, 1, 1, 0, 1, 1]


def test_shuffles_exchange_values_of_whole_sources_within_strata(random):
    sources, strata = np.repeat(np.arange(12), 3), np.repeat([0, 1], 18)
    values = sources * 10 + np.tile(np.arange(3), 12)
    moved = 0
    for _ in range(20):
        given = measures.shuffled(values, sources, strata, random)
        assert sorted(given) == sorted(values)
        assert (given[:18] < 60).all()
        assert all(len(set(of // 10)) == 1 for of in given.reshape(12, 3))  # sources of equal size
        moved += (given[::3] // 10 != sources[::3]).sum()
    assert moved > 150  # 200 of 240 are expected
    # By chance, the gap between quantiles is nothing.
    parts, hits = np.repeat([0, 1, 1, 0], 9), np.repeat([1.0, 0, 0, 1.0], 9)
    gaps = [
        measures.difference(hits, given == 0, given == 1)(np.ones((1, 36)))[0]
        for given in (
            measures.shuffled(parts, np.arange(36), np.zeros(36), random) for _ in range(200)
        )
    ]
    assert abs(np.mean(gaps)) < 0.05
    assert measures.difference(hits, parts == 0, parts == 1)(np.ones((1, 36))) == 1


def test_runs_alike_give_what_one_gives(random):
    values, hits = random.random(40), random.integers(0, 2, 40).astype(float)
    sources, strata = random.integers(0, 15, 40), np.zeros(40)
    run = SimpleNamespace(videos=SimpleNamespace(sources=sources))
    made = []
    for count in (1, 3):
        measuring = Measuring(runs=[run] * count, steps=[0] * count, resamples=50, seed=1)
        made.append(measuring._quantiles([values] * count, [hits] * count, strata, 4, 30))
    one, three = map(json.dumps, made)
    assert json.loads(one, parse_float=lambda x: round(float(x), 9)) == json.loads(
        three, parse_float=lambda x: round(float(x), 9)
    )
    order = np.argsort(values)
    quarters = [hits[some].mean() for some in np.split(order, 4)]
    np.testing.assert_allclose([of["value"] for of in made[0]["r@1"]], quarters)
    assert made[0]["gap"]["value"] == pytest.approx(quarters[0] - quarters[3])
    assert made[0]["area"]["value"] == pytest.approx(slow_area(values, hits < 1))
    assert abs(made[0]["shuffled"]["value"]) < 0.15


def test_values_by_chance_have_a_range_and_a_share_that_is_further():
    chance = np.linspace(-1, 1, 201)
    made, p = measures.against_chance(-0.9, chance)
    np.testing.assert_allclose(made, (0, -0.95, 0.95), atol=1e-9)
    assert p == sum([abs(-0.9) <= abs(of) + 1e-9 for of in chance], start=1) / 202
    assert measures.against_chance(0.5, chance[:0])[1] is None


def test_correlations(random):
    x, y = random.normal(size=(2, 9))
    made = measures.correlations(x, y)
    assert made["pearson"] == pytest.approx(np.corrcoef(x, y)[0, 1])
    ranks = (np.argsort(np.argsort(of)) for of in (x, y))
    assert made["spearman"] == pytest.approx(np.corrcoef(*ranks)[0, 1])
    for few in ((x[:2], y[:2]), (np.ones(9), y)):
        assert measures.correlations(*few) == {"pearson": None, "spearman": None}


def test_pairs_are_counted_by_kind(random):
    labels, sources = random.integers(0, 3, 9), random.integers(0, 4, 9)
    others = ~np.eye(9, dtype=bool)
    near = random.random((9, 9)) < 0.4
    counts = measures.pairs_by_video(near, others, labels, sources)
    slow = {name: np.zeros(9) for name in counts}
    for i in range(9):
        for j in range(9):
            if i == j:
                continue
            one_class, one_source = labels[i] == labels[j], sources[i] == sources[j]
            kinds = {"": True, "/class": one_class, "/source": one_source}
            kinds |= {"/apart": not one_source, "/apart/class": one_class and not one_source}
            for kind, of in kinds.items():
                slow["all" + kind][i] += of
                slow["mined" + kind][i] += of and near[i, j]
    assert {n: of.tolist() for n, of in counts.items()} == {n: o.tolist() for n, o in slow.items()}


BATCH = {
    "rows": np.array([7, 3, 5, 2, 9, 7, 11, 4], np.int32),  # 7 twice
    "clips": np.random.default_rng(1).normal(size=(8, 2, 3, 5)).astype(np.float32),
    "present": np.arange(16).reshape(8, 2) != 5,
}
TASK = ProbabilisticVideos(
    heads=GaussianHeads(size=4), loss=StochasticContrast(threshold=Quantile(share=0.1), samples=2)
)


def mined(task):
    """Parameters, state, and what is mined of BATCH."""
    with on(1):
        spec = Spec(widths={"visual": 5}, clip=(3, 5))
        start = jax.jit(lambda key: task.init(key, spec, None))
        parameters, state = start(jax.random.key(0))
        run = jax.jit(partial(_mined, task))
        made = run(parameters, state, BATCH, jnp.int32(0), jax.random.key(1))
        return parameters, state, map(np.asarray, made)


def test_mined_pairs_are_the_nearest():
    parameters, state, (video, near, others) = mined(TASK)
    with on(1):
        of_batch = jax.jit(lambda *given: TASK.clips(*given)[0])
        clips = jax.tree.map(np.asarray, of_batch(parameters, state, BATCH))
    assert video.tolist() == BATCH["rows"].tolist()
    distances = {}
    for i in range(8):
        for j in range(8):
            assert others[i, j] == (video[i] != video[j])
            (m, v), (n, w) = (
                (of.mean(0), (np.exp(log) + of**2).mean(0) - of.mean(0) ** 2)
                for of, log in (
                    (np.float64(clips.mean[k][p]), clips.log_variance[k][p])
                    for k, p in ((i, clips.present[i]), (j, clips.present[j]))
                )
            )
            shape = 0.25 * np.log(0.25 * (v / w + w / v + 2))
            distances[i, j] = np.mean(shape + 0.25 * (m - n) ** 2 / (v + w))
    ordered = sorted(of for pair, of in distances.items() if others[pair])
    threshold = ordered[2 * round(0.1 * len(ordered) / 2)]
    for pair, of in distances.items():
        assert near[pair] == (others[pair] and of < threshold * (1 - 1e-5))


@pytest.mark.long
@pytest.mark.parametrize("views", ["whole", "halves"])
def test_mined_pairs_are_those_of_the_loss(views):
    task = replace(TASK, loss=replace(TASK.loss, views=views))
    parameters, state, (video, near, others) = mined(task)
    with on(1):
        losses = jax.jit(task.loss_and_measures)
        _, (_, told) = losses(parameters, state, {}, BATCH, jax.random.key(1))
    assert len(video) == (16 if views == "halves" else 8)
    assert near.sum() / others.sum() == pytest.approx(float(told["mined"]))
    assert near.any()


def test_partners_are_of_their_kind_and_of_similar_length(random):
    videos = Videos(
        labels=random.integers(0, 3, 60),
        sources=random.integers(0, 12, 60),
        lengths=random.integers(10, 40, 60),
        windows=random.integers(1, 3, 60),
    )
    chosen = measures.partners(videos, random)
    assert chosen[KINDS[0]].tolist() == list(range(60))

    def allowed(kind, i, j):
        like = (videos.labels[i] == videos.labels[j], videos.sources[i] == videos.sources[j])
        expected = {KINDS[1]: (True, True), KINDS[2]: (True, False), KINDS[3]: (False, False)}
        long, short = sorted((videos.lengths[i], videos.lengths[j]), reverse=True)
        same = i != j and videos.windows[i] == videos.windows[j]
        return same and like == expected[kind] and long <= measures.LENGTHS_APART * short

    for kind in KINDS[1:]:
        for i, j in enumerate(chosen[kind].tolist()):
            if j < 0:
                assert not any(allowed(kind, i, other) for other in range(60))
            else:
                assert allowed(kind, i, j)
        assert (chosen[kind] >= 0).any()


def test_joined_clips_are_half_of_each(random):
    first, second = random.normal(size=(2, 3, 4, 5, 2))
    windows = np.array([4, 3, 2])
    made = measures.halves_of_windows(first, second, windows)
    for video, count in enumerate(windows):
        for window in range(count):
            of = first if window < count / 2 else second
            assert (made[video, window] == of[video, window]).all()
    made = measures.halves_of_frames(first, second)
    for frame in range(5):
        of = first if frame < 2.5 else second
        assert (made[:, :, frame] == of[:, :, frame]).all()
    assert (measures.halves_of_windows(first, first, windows) == first).all()


def test_the_spread_of_inputs_is_the_variance_of_their_directions(random):
    clips, present = random.normal(size=(3, 2, 4, 5)), np.array([[1, 1], [1, 0], [1, 1]], bool)
    mean, deviation = np.arange(5.0), np.array([1.0, 2, 3, 4, 0])
    spread = measures.spread(clips, present, mean, deviation)
    for video in range(3):
        frames = [f for c, p in zip(clips[video], present[video]) if p for f in c]
        vectors = [np.append(((f - mean) / np.maximum(deviation, 1e-9))[:4], 0) for f in frames]
        vectors = np.array([v / np.linalg.norm(v) for v in vectors])
        expected = np.mean([np.sum((v - vectors.mean(0)) ** 2) for v in vectors])
        assert spread[video] == pytest.approx(expected, rel=1e-5)
    made = measures.moments_of_channels(iter(clips))
    np.testing.assert_allclose(made, (clips.mean((0, 1, 2)), clips.std((0, 1, 2))))


def test_noise_has_the_size_of_deviations_and_pixels_stay_pixels(random):
    frames, deviation = np.zeros((4000, 3), np.float32), np.array([1.0, 5, 0])
    noisy = measures.with_noise(frames, 0.5, deviation, random)
    np.testing.assert_allclose(noisy.std(0), [0.5, 2.5, 0], rtol=0.05)
    pixels = np.full((50, 8, 8, 3), 250, np.uint8)
    noisy = measures.with_noise(pixels, 1.0, np.full(3, 60.0), random)
    assert noisy.dtype == np.uint8
    assert (noisy.max(), noisy.min() < 150) == (255, True)  # clipped, not wrapped around


@pytest.fixture(scope="module")
def shapes(tmp_path_factory):
    """Simulated clips, and features of frames in which the classes are apart."""
    folder, random = tmp_path_factory.mktemp("shapes"), np.random.default_rng(0)
    write_shapes(folder, Shapes(groups=10, frames=12))
    store = FeatureStore(folder / "features", {"space": "numbers"})
    rows = list(csv.DictReader((folder / "clips.csv").read_text().splitlines()))
    centres = {row["class"]: random.normal(size=6) for row in rows}
    for row in rows:
        count = int(random.integers(16, 24))
        values = centres[row["class"]] + 0.5 * random.normal(size=(count, 6))
        frames = FrameFeatures(np.arange(count) / 8, values.astype(np.float32))
        store.write(Path(row["path"]).stem, {}, frames)
    return folder, str(store.folder)


WINDOWS = (
    "--preset windows --feed.batch-videos 16 --steps 40 --checkpoints.every-steps 10 --log-every 10"
    " --task.heads.size 8 --feed.frames 8 --task.embedded.frames 8"
)
DECODED = (
    "--preset clips --steps 4 --checkpoints.every-steps 2 --log-every 2 --task.augment.size 16 "
    "--feed.batch-videos 8 --feed.frames 4 --feed.rate 12 --feed.height 24 --feed.width 24 "
    "--feed.workers 0 --task.encoder.width 0.0625 --task.heads.size 8 --task.embedded.frames 4 "
    "--task.embedded.rate 12 --task.embedded.height 24 --task.embedded.width 24"
)
FEW = ["--resamples", "40", "--shuffles", "20", "--batches", "2", "--noise", "1", "8"]


def trained(folder, workdir, *options):
    data = ["--corpus.folder", str(folder), "--corpus.clips", f"{folder}/clips.csv"]
    assert vidembed(["train", "provico", "--workdir", str(workdir), *data, *options]) == 0
    return str(workdir)


def measured(workdir, *runs):
    assert main(["--run", *runs, "--workdir", str(workdir), *FEW]) == 0
    return json.loads((workdir / "uncertainty.json").read_text())


@pytest.mark.long
def test_runs_on_windows_are_measured_and_averaged(shapes, tmp_path, capsys):
    folder, features = shapes
    options = [*WINDOWS.split(), "--corpus.frames", features, "task.encoder:mean-of-frames"]
    runs = [trained(folder, tmp_path / f"{n}", *options, "--seed", str(n)) for n in range(2)]
    result = measured(tmp_path / "both", *runs)
    assert (result["simulated"], result["steps"]) == (True, [40, 40])
    # Against the outputs of the trained models, and their evaluation.
    scores, variances = [], []
    for run in runs:
        model = load_model(Workdir(run), "latest")
        corpus = model.recipe.corpus.open()
        scores.append(Probe(resamples=40).measure(model["video"](corpus.table), corpus))
        rows = np.flatnonzero(corpus.parts["test"])
        deviation = model["video_deviation"](corpus.table, rows)
        variances.append(np.square(deviation).sum(1).mean())
    last = result["curve"]["points"][-1]
    assert last["r@1"]["value"] == np.mean([of.scores["test/r@1"].value for of in scores]) > 0.6
    assert last["total"]["value"] == pytest.approx(np.mean(variances), rel=1e-5)
    assert [p["step"] for p in result["curve"]["points"]] == [0, 10, 20, 30, 40]
    classes = result["quantiles"]["classes"]
    assert len(classes) == 8  # of as many videos each
    assert np.mean([of["r@1"]["value"] for of in classes.values()]) == pytest.approx(
        last["r@1"]["value"]
    )
    clean, some, much = result["noise"]["inputs"]
    assert clean == {"size": 0} | {name: last[name] for name in last if name != "step"}
    assert much["r@1"]["value"] < clean["r@1"]["value"] - 0.2
    assert much["between"]["value"] > some["between"]["value"] > clean["between"]["value"]
    within = {p["within"]["value"] for p in result["noise"]["embeddings"]}
    assert len(within) == 1
    mined, every = result["purity"]["mined"][-1], result["purity"]["all"]
    assert mined["class"]["value"] > every["class"]["value"] + 0.3
    two = result["joined"]["places"]["windows"]["areas"][2]
    assert (two["one"], two["other"]) == ("another class", "same video")
    assert two["between"]["value"] > 0.9
    written = (tmp_path / "both" / "uncertainty.md").read_text()
    assert "simulated" in written
    assert "SIMULATED" in "".join(capsys.readouterr())
    assert "<svg" in (tmp_path / "both" / "uncertainty.svg").read_text()
    # The clips are those that outputs read.
    run = Trained(runs[0])
    rows, read = run.test
    expected = run.task.embedded.read(run.corpus.table, rows)
    for name in read._fields:
        np.testing.assert_array_equal(getattr(read, name), expected[name])


@pytest.mark.long
def test_runs_on_decoded_clips_are_measured_and_others_are_refused(shapes, tmp_path, capsys):
    folder, features = shapes
    run = trained(folder, tmp_path / "run", *DECODED.split())
    result = measured(tmp_path / "out", run)
    assert (result["reads"], result["test"]) == ("decoded clips", 24)
    model = load_model(Workdir(run), "latest")
    corpus = model.recipe.corpus.open()
    rows = np.flatnonzero(corpus.parts["test"])
    deviation = model["video_deviation"](corpus.table, rows)
    last = result["curve"]["points"][-1]["total"]["value"]
    assert last == pytest.approx(np.square(deviation).sum(1).mean(), rel=1e-4)
    windows = [*WINDOWS.split(), "--corpus.frames", features, "task.encoder:mean-of-frames"]
    other = trained(folder, tmp_path / "other", *windows)
    pairs = trained(folder, tmp_path / "pairs", *windows, "task.loss:info-nce")
    capsys.readouterr()
    for runs, message in (
        ([pairs], "learns no variances"),
        ([run, other], "of different data"),
        ([str(tmp_path / "none")], "no recipe.json"),
    ):
        assert main(["--run", *runs, "--workdir", str(tmp_path / "refused"), *FEW]) == 1
        assert message in " ".join("".join(capsys.readouterr()).split())

"""The loss of a batch of videos and captions against plain loops, on 1 and 8 devices."""

from dataclasses import replace
from functools import lru_cache
from types import SimpleNamespace

import jax
import numpy as np
import pytest

from vidembed.distributed import mesh as meshes
from vidembed.losses.info_nce import InfoNCE
from vidembed.losses.ranking import HardestHinge, SumOfHinges
from vidembed.models.text import Gru, Sentences
from vidembed.models.video_text import JointSpaces
from vidembed.tasks.video_text import VideoText

WIDTHS = {"object": 5, "activity": 3, "audio": 2}
B, L, W, D, E = 16, 5, 11, 4, 6
SPEC = SimpleNamespace(widths=WIDTHS, words=W, sentence_width=0)
SENTENCES = SimpleNamespace(widths=WIDTHS, words=0, sentence_width=E)
TASK = VideoText(model=JointSpaces(text=Gru(units=D, embedding=3)))
LEARNED = VideoText(
    model=JointSpaces(text=Gru(units=D, embedding=3, dropout=0.3), feature_dropout=0.3),
    loss=InfoNCE(),
)
AXES = {"rows": None, "tokens": 0, "words": 0, "sentences": 0, "features": 0, "present": 0}


@pytest.fixture(scope="module")
def batch():
    rng = np.random.default_rng(0)
    rows = rng.integers(0, 12, B).astype(np.int32)  # some videos come twice
    table = {m: rng.normal(2, 3, size=(12, w)).astype(np.float32) for m, w in WIDTHS.items()}
    return {
        "rows": rows,
        "features": {m: values[rows] for m, values in table.items()},
        "present": {"audio": rows % 3 > 0, "activity": rows % 2 > 0},
        "tokens": rng.integers(0, W, (B, L)).astype(np.int32),
        "words": rng.integers(1, L + 1, B).astype(np.int32),
    }


@pytest.fixture(scope="module")
def start(batch):
    return started(TASK)


def started(task, spec=SPEC, statistics=None):
    rng = np.random.default_rng(1)
    statistics = statistics or {
        m: {"mean": rng.normal(size=w), "deviation": rng.uniform(1, 3, w)}
        for m, w in WIDTHS.items()
    }
    return jax.jit(lambda key: task.init(key, spec, statistics))(jax.random.key(1))


@lru_cache
def compiled(task):
    return jax.jit(jax.value_and_grad(task.loss_and_measures, has_aux=True))


def gradient_of(task, batch, start, shape=(1, 1)):
    """(loss, measures, gradient) on a data × model mesh."""
    devices = jax.devices()[: shape[0] * shape[1]]
    mesh = meshes.make_mesh(meshes.MeshShape(data=shape[0], model=shape[1]), devices)
    with jax.set_mesh(mesh):
        placed = meshes.place_batch(mesh, batch, AXES)
        parameters, state = jax.device_put(start, meshes.replicated(mesh))
        run = compiled(task)
        (loss, (_, measures)), gradient = run(parameters, state, {}, placed, jax.random.key(2))
        return jax.tree.map(np.asarray, (loss, measures, gradient))


def losses_of(tasks, batch, start):
    """(loss, measures) of each task."""

    def run(parameters, state, batch):
        each = [t.loss_and_measures(parameters, state, {}, batch, jax.random.key(2)) for t in tasks]
        return [(loss, measures) for loss, (_, measures) in each]

    return jax.tree.map(np.asarray, jax.jit(run)(*start, batch))


def vectors_of(task, batch, start):
    parameters, state = start
    video, text = (task.outputs[name].apply for name in ("video", "text"))
    both = jax.jit(lambda p, s, b: (video(p, s, b), text(p, s, b)))(parameters, state, batch)
    return tuple(np.asarray(vectors, np.float64) for vectors in both)


def slow(videos, texts, rows, margin=0.2, weight=1.0, mask=True):
    """Weighted ranking in both directions, pair by pair."""
    losses = []
    for one, other in ((videos, texts), (texts, videos)):
        scores = one @ other.T
        for i in range(B):
            others = [j for j in range(B) if j != i and not (mask and rows[j] == rows[i])]
            rank = 1 + sum(scores[i, j] > scores[i, i] for j in others)
            hinge = max(0.0, margin - scores[i, i] + max(scores[i, j] for j in others))
            losses.append((1 + weight / (B - rank + 1)) * hinge)
    return np.sum(losses)


def test_the_loss_is_that_of_plain_loops(batch, start):
    videos, texts = vectors_of(TASK, batch, start)
    rows, halves = batch["rows"], (slice(0, D), slice(D, 2 * D))
    tasks = (TASK, replace(TASK, fused=True), replace(TASK, mask_same=False, reduce="sum"))
    apart, fused, code = losses_of(tasks, batch, start)
    want = sum(slow(videos[:, s], texts[:, s], rows) for s in halves)
    assert apart[0] == pytest.approx(want / B, rel=1e-5)
    assert apart[1]["loss"] == apart[0]
    similarity = np.mean(np.sum(videos * texts, 1)) / 2
    assert apart[1]["similarity"] == pytest.approx(similarity, abs=1e-6)
    for name, side in (("spread", videos), ("text_spread", texts)):
        spread = 1 - np.sum(np.square(np.mean(side, 0))) / 2
        assert apart[1][name] == pytest.approx(spread, abs=1e-5)
    assert fused[0] == pytest.approx(slow(videos, texts, rows) / B, rel=1e-5)
    want = sum(slow(videos[:, s], texts[:, s], rows, mask=False) for s in halves)
    assert code[0] == pytest.approx(want, rel=1e-5)
    assert code[1]["loss"] == pytest.approx(want / B, rel=1e-5)


def test_devices_agree(batch):
    begin = started(LEARNED)
    one, many = (gradient_of(LEARNED, batch, begin, shape) for shape in ((1, 1), (4, 2)))
    assert many[0] == pytest.approx(one[0], rel=1e-5)
    for name in one[1]:
        assert many[1][name] == pytest.approx(one[1][name], rel=1e-5, abs=1e-6), name
    for name in one[2]:
        np.testing.assert_allclose(many[2][name], one[2][name], rtol=1e-4, atol=2e-6)
        assert np.any(one[2][name]), name
    assert one[2]["loss/log_temperature"].shape == (2,)


def test_a_space_learns_as_if_it_were_alone(batch):
    """What the paper does in two trainings: the gradient of a space knows nothing of the other."""
    parameters, state = started(LEARNED)
    other = {n: 1.5 * p + 0.1 if "/1/" in n else p for n, p in parameters.items()}
    first, second = (gradient_of(LEARNED, batch, (p, state))[2] for p in (parameters, other))
    for name in first:
        if "/0/" in name:
            np.testing.assert_array_equal(first[name], second[name])
        elif "/1/" in name:
            assert np.any(first[name] != second[name]), name


def test_two_copies_of_a_space_differ_in_all_but_their_inputs(batch):
    """The control for what a second space gains: each has its own maps, encoder and loss."""
    copies = replace(TASK, model=replace(TASK.model, spaces=("object+audio",) * 2))
    start = started(copies)
    of_first = [n for n in start[0] if "/0/" in n and not n.endswith("bias")]
    assert len(of_first) == 4  # a map, the words, and two kernels
    for name in of_first:
        assert np.any(np.asarray(start[0][name] != start[0][name.replace("/0/", "/1/")])), name
    videos, texts = vectors_of(copies, batch, start)
    rows, halves = batch["rows"], (slice(0, D), slice(D, 2 * D))
    assert all(np.abs(side[:, :D] - side[:, D:]).max() > 0.1 for side in (videos, texts))
    [(loss, _)] = losses_of([copies], batch, start)
    want = sum(slow(videos[:, s], texts[:, s], rows) for s in halves)
    assert loss == pytest.approx(want / B, rel=1e-5)


def test_outputs_read_rows_of_captions(batch, start):
    parameters, state = start
    text = TASK.outputs["text"]
    source = SimpleNamespace(read=lambda rows: {n: batch[n][rows] for n in ("tokens", "words")})
    rows = np.array([3, 1])
    arrays = text.read(source, rows)
    assert arrays.keys() == {"tokens", "words"}
    vectors = np.asarray(jax.jit(text.apply)(parameters, state, arrays))
    np.testing.assert_allclose(vectors, vectors_of(TASK, batch, start)[1][rows], atol=1e-6)
    for side in (vectors[:, :D], vectors[:, D:]):
        np.testing.assert_allclose(np.linalg.norm(side, axis=1), 1, atol=1e-5)
    np.testing.assert_array_equal(text.lengths(source, rows), batch["words"][rows])
    assert text.needs == ("parameters/texts",)
    assert TASK.outputs["video"].needs == ("parameters/maps", "state/inputs")
    whole = [*parameters, *(f"state/{name}" for name in state)]
    assert all(name.startswith(("maps/", "texts/", "state/inputs")) for name in whole)


def test_sentence_vectors_are_centred():
    task = VideoText(model=JointSpaces(text=Sentences(hidden=(), size=D)))
    rng = np.random.default_rng(4)
    mean = rng.normal(size=E).astype(np.float32)
    known = {m: {"mean": np.zeros(w), "deviation": np.ones(w)} for m, w in WIDTHS.items()}
    parameters, state = started(task, SENTENCES, known | {"sentences": {"mean": mean}})
    x = rng.normal(size=(3, E)).astype(np.float32)
    text = task.outputs["text"]
    assert "state/text" in text.needs
    scaled = mean + 7 * (x - mean)  # only the direction from the mean counts
    one, other = (jax.jit(text.apply)(parameters, state, {"sentences": v}) for v in (x, scaled))
    np.testing.assert_allclose(one, other, atol=1e-5)


@pytest.mark.fault(
    "Captions: captions in another form than the text encoder reads (words, sentence vectors)",
    "refused before training, naming the encoder that fits",
)
def test_captions_in_another_form_are_refused():
    of_sentences = VideoText(model=JointSpaces(text=Sentences()))

    def begin(task, spec):
        jax.eval_shape(lambda: task.init(jax.random.key(0), spec, None))

    with pytest.raises(ValueError, match="reads words, and the feed gives none"):
        begin(TASK, SENTENCES)
    with pytest.raises(ValueError, match="reads sentence vectors, and the feed gives none"):
        begin(of_sentences, SPEC)
    with pytest.raises(ValueError, match="no 'object'"):
        begin(TASK, SimpleNamespace(widths={"visual": 2}, words=W, sentence_width=0))
    source = SimpleNamespace(read=lambda rows: {"tokens": rows, "words": rows})
    with pytest.raises(ValueError, match="reads captions as sentences, and these give tokens and"):
        of_sentences.outputs["text"].read(source, np.arange(2))
    with pytest.raises(ValueError, match="reduce must be mean or sum"):
        VideoText(reduce="max")


def test_shapes_do_not_need_statistics():
    for loss, names in ((HardestHinge(), 0), (SumOfHinges(), 0), (InfoNCE(), 1)):
        task = replace(TASK, loss=loss)
        parameters, state = jax.eval_shape(
            lambda task=task: task.init(jax.random.key(0), SPEC, None)
        )
        assert sum(name.startswith("loss/") for name in parameters) == names
        axes, _ = task.layout(parameters, state)
        assert set(axes) == set(parameters)
        assert not any(axes.values())


def test_a_collapse_names_remedies_of_its_own():
    lines = [{"step": step, "spread": 0.01} for step in range(0, 401, 20)]
    [message] = TASK.diagnose(lines, finished=True).values()
    assert "one point" in message
    assert "task.loss:info-nce" in message
    assert TASK.diagnose([{**line, "spread": 0.9} for line in lines], finished=True) == {}
    # The hardest hinge with dropout: videos differ, and all texts have one vector.
    lines = [{**line, "spread": 0.9, "text_spread": 0.01} for line in lines]
    [(name, message)] = TASK.diagnose(lines, finished=True).items()
    assert name == "one point of texts"
    assert "the embeddings of texts have collapsed" in message
    assert "less dropout" in message

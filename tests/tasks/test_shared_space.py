"""The losses of one shared space against plain loops, on 1 and 8 devices."""

from dataclasses import replace

import numpy as np
import pytest

from tests.tasks import test_video_text as joint_spaces
from tests.tasks.test_video_text import SENTENCES, B, D, E, gradient_of, losses_of, vectors_of
from vidembed.losses.info_nce import InfoNCE
from vidembed.models.joint import split_blocks
from vidembed.models.shared_space import SharedSpace
from vidembed.models.text import Sentences
from vidembed.tasks.video_text import VideoText

pairs_of_captions = joint_spaces.batch
MODEL = SharedSpace(text=Sentences(hidden=(), size=D), pairs=("object~audio", "audio~activity"))
TASK = VideoText(model=MODEL)
PAIRS = ((0, 2), (2, 1))


@pytest.fixture(scope="module")
def batch(pairs_of_captions):
    vectors = np.random.default_rng(5).normal(size=(B, E)).astype(np.float32)
    return {**pairs_of_captions, "sentences": vectors}


def started(task):
    return joint_spaces.started(task, SENTENCES)


def slow(ours, theirs, usable, rows, mask=True, margin=0.2):
    """Weighted ranking in both directions, pair by pair, over the pairs that have both sides."""
    total = 0.0
    for one, other in ((ours, theirs), (theirs, ours)):
        scores = one @ other.T
        for i in np.flatnonzero(usable):
            others = [j for j in np.flatnonzero(usable)
                      if j != i and not (mask and rows[j] == rows[i])]  # fmt: skip
            rank = 1 + sum(scores[i, j] > scores[i, i] for j in others)
            hinge = max(0.0, margin - scores[i, i] + max(scores[i, j] for j in others))
            total += (1 + 1 / (B - rank + 1)) * hinge
    return total


def sides(batch, start):
    """The blocks f64[B, D] of the videos, whether they have them, and the texts."""
    parameters, state = start
    features, present = batch["features"], batch["present"]
    blocks = np.asarray(TASK.embed(parameters, state, features, present), np.float64)
    has = [np.ones(B, bool), present["activity"], present["audio"]]
    return np.split(blocks, 3, axis=1), has, vectors_of(TASK, batch, start)


def test_the_loss_is_that_of_plain_loops(batch):
    start = started(TASK)
    blocks, has, (videos, texts) = sides(batch, start)
    rows = batch["rows"]
    tasks = (TASK, replace(TASK, fused=True), replace(TASK, mask_same=False, reduce="sum"))
    apart, fused, code = losses_of(tasks, batch, start)
    among = sum(slow(blocks[a], blocks[b], has[a] & has[b], rows) for a, b in PAIRS)
    with_text = sum(slow(block, texts, usable, rows) for block, usable in zip(blocks, has))
    assert apart[0] == pytest.approx((with_text + among) / B, rel=1e-5)
    mean = sum(blocks) / np.sum(has, axis=0)[:, None]
    np.testing.assert_allclose(videos, mean, atol=1e-6)
    whole = slow(videos, texts, np.ones(B, bool), rows)
    assert fused[0] == pytest.approx((whole + among) / B, rel=1e-5)
    # Captions of one video may be negatives of each other; a video never is its own.
    unmasked = sum(slow(block, texts, usable, rows, mask=False)
                   for block, usable in zip(blocks, has))  # fmt: skip
    assert code[0] == pytest.approx(unmasked + among, rel=1e-5)
    assert apart[1]["similarity"] == pytest.approx(np.mean(np.sum(videos * texts, 1)), abs=1e-6)
    spread = 1 - np.sum(np.square(np.mean(np.concatenate(blocks, 1), 0))) / 3
    assert apart[1]["spread"] == pytest.approx(spread, abs=1e-5)


@pytest.mark.long
def test_devices_agree(batch):
    task = replace(TASK, loss=InfoNCE())
    begin = started(task)
    one, many = (gradient_of(task, batch, begin, shape) for shape in ((1, 1), (4, 2)))
    assert many[0] == pytest.approx(one[0], rel=1e-5)
    for name in one[1]:
        assert many[1][name] == pytest.approx(one[1][name], rel=1e-5, abs=1e-6), name
    for name in one[2]:
        np.testing.assert_allclose(many[2][name], one[2][name], rtol=1e-4, atol=2e-6)
        assert np.any(one[2][name]), name
    assert one[2]["loss/log_temperature"].shape == (5,)  # three with the text, two pairs


@pytest.mark.long
def test_a_missing_modality_teaches_nothing(batch):
    """Without sound anywhere, the gradient is that of a space without it."""
    silent = batch | {"present": {**batch["present"], "audio": np.zeros(B, bool)}}
    less = replace(TASK, model=replace(MODEL, modalities=("object", "activity"), pairs=()))
    start = started(TASK)
    whole = gradient_of(TASK, silent, start)
    parameters = {n: p for n, p in start[0].items() if not n.startswith("maps/2/")}
    inputs = {m: v for m, v in start[1]["inputs"].items() if m != "audio"}
    without = gradient_of(less, silent, (parameters, start[1] | {"inputs": inputs}))
    assert whole[0] == pytest.approx(without[0], rel=1e-6)
    for name in parameters:
        np.testing.assert_allclose(whole[2][name], without[2][name], rtol=1e-5, atol=1e-7)
    assert not np.any(whole[2]["maps/2/kernel"])


def test_nan_is_not_taken_for_a_missing_modality(batch):
    broken = {m: values.copy() for m, values in batch["features"].items()}
    broken["object"][3] = np.nan
    loss, _, _ = gradient_of(TASK, batch | {"features": broken}, started(TASK))
    assert np.isnan(loss)


def test_blocks_are_split_by_their_size():
    blocks = split_blocks(np.arange(12.0).reshape(2, 6), 2)
    assert [block.shape for block in blocks] == [(2, 2)] * 3
    assert blocks[1][1].tolist() == [8, 9]

"""One space for all modalities and texts against numpy: blocks, the mean of cosines, refusals."""

from dataclasses import replace

import jax
import numpy as np
import pytest

from vidembed.models.joint import Compared
from vidembed.models.parameters import apply, initialise
from vidembed.models.shared_space import SharedSpace
from vidembed.models.text import Sentences

WIDTHS = {"object": 5, "activity": 3, "audio": 2}
B, D, E = 4, 6, 3
MODEL = SharedSpace(text=Sentences(hidden=(), size=D))


def unit(x):
    return x / np.linalg.norm(x, axis=-1, keepdims=True)


def test_a_dot_product_is_the_mean_of_the_cosines_of_the_modalities_there_are():
    rng = np.random.default_rng(0)
    features = {m: rng.normal(size=(B, w)).astype(np.float32) for m, w in WIDTHS.items()}
    has = {"activity": np.array([1, 0, 0, 1], bool), "audio": np.array([1, 1, 0, 0], bool),
           "object": np.array([1, 1, 0, 1], bool)}  # fmt: skip
    sentences = rng.normal(size=(3, E)).astype(np.float32)

    def run(key):
        p = initialise(MODEL, WIDTHS, key) | initialise(MODEL.texts, {"sentences": E}, key)
        blocks = apply(MODEL, p, features, present=has)
        return p, blocks, MODEL.joined(blocks), apply(MODEL.texts, p, {"sentences": sentences})

    p, blocks, videos, texts = jax.tree.map(np.asarray, jax.jit(run)(jax.random.key(0)))
    assert MODEL.size == MODEL.texts.size == D
    assert blocks.shape == (B, 3 * D)
    assert videos.shape == (B, D)
    text = unit(sentences @ p["texts/0/layers/0/kernel"])
    np.testing.assert_allclose(texts, text, atol=1e-5)
    for row in range(B):
        cosines = [
            unit(features[m][row] @ p[f"maps/{n}/kernel"]) @ text.T
            for n, m in enumerate(WIDTHS)
            if has[m][row]
        ]
        expected = np.mean(cosines, axis=0) if cosines else np.zeros(3)  # the third has nothing
        np.testing.assert_allclose(videos[row] @ texts.T, expected, atol=1e-5)


def test_what_is_compared_is_a_value():
    assert MODEL.compared == Compared(
        with_text=((0, 0), (1, 0), (2, 0)), within_video=((0, 2),), skip_missing=True
    )
    assert replace(MODEL, pairs=()).compared.within_video == ()
    two = replace(MODEL, modalities=("visual", "audio"), pairs=("audio~visual",))
    assert two.compared.within_video == ((1, 0),)


def test_a_modality_has_one_map_and_all_share_a_text_encoder():
    p = jax.eval_shape(lambda: initialise(MODEL, WIDTHS, jax.random.key(0)))
    assert {name: leaf.shape for name, leaf in p.items() if "kernel" in name} == {
        f"maps/{n}/kernel": (width, D) for n, width in enumerate(WIDTHS.values())
    }
    texts = jax.eval_shape(lambda: initialise(MODEL.texts, {"sentences": E}, jax.random.key(0)))
    assert [name for name in texts if "kernel" in name] == ["texts/0/layers/0/kernel"]


@pytest.mark.fault(
    "Captions: a shared space with pairs of other modalities, or one that the data lacks",
    "refused before training, naming the pair or the modality",
)
def test_modalities_and_pairs_that_do_not_fit_are_refused():
    for options, message in [
        ({"modalities": ()}, "one or more distinct names, found none"),
        ({"modalities": ("audio", "audio")}, "distinct names"),
        ({"pairs": ("object",)}, "'object' must be two of the modalities object activity audio"),
        ({"pairs": ("object~object",)}, "must be two of"),
        ({"pairs": ("object~scene",)}, "'object~scene' must be two of"),
        ({"pairs": ("object~audio", "audio~object")}, "name a pair twice"),
        ({"feature_dropout": 1.0}, "outside"),
    ]:
        with pytest.raises(ValueError, match=message):
            SharedSpace(**options)
    with pytest.raises(ValueError, match=r"data has \['audio', 'visual'\]: no 'object'"):
        MODEL.check({"visual": 4, "audio": 2})

"""Joint spaces against numpy: linear maps, unit vectors side by side, missing modalities."""

from dataclasses import replace

import jax
import numpy as np
import pytest

from vidembed.models.joint import Compared, split_blocks
from vidembed.models.parameters import apply, initialise
from vidembed.models.text import Sentences
from vidembed.models.video_text import JointSpaces

WIDTHS = {"object": 5, "activity": 3, "audio": 2}
B, D, E = 4, 6, 3
MODEL = JointSpaces(text=Sentences(hidden=(), size=D))


@pytest.fixture(scope="module")
def made():
    rng = np.random.default_rng(0)
    features = {m: rng.normal(size=(B, w)).astype(np.float32) for m, w in WIDTHS.items()}
    parameters = jax.jit(lambda key: initialise(MODEL, WIDTHS, key))(jax.random.key(0))
    biased = {n: p + 0.1 if n.endswith("bias") else p for n, p in parameters.items()}
    return features, {name: np.asarray(value) for name, value in biased.items()}


def unit(x):
    return x / np.linalg.norm(x, axis=-1, keepdims=True)


def expected(features, p, groups=(("object",), ("activity", "audio"))):
    return np.concatenate(
        [
            unit(
                np.concatenate([features[m] for m in group], 1) @ p[f"maps/{n}/kernel"]
                + p[f"maps/{n}/bias"]
            )
            for n, group in enumerate(groups)
        ],
        axis=1,
    )


def test_a_video_has_a_unit_vector_in_each_space(made):
    features, p = made
    assert MODEL.size == 2 * D
    assert {n: v.shape for n, v in p.items()} == {
        "maps/0/kernel": (5, D), "maps/0/bias": (D,), "maps/1/kernel": (5, D), "maps/1/bias": (D,),
    }  # fmt: skip
    assert np.abs(p["maps/0/kernel"]).max() <= np.sqrt(6 / (5 + D))  # Xavier, uniform
    vectors = jax.jit(lambda p, x: apply(MODEL, p, x))(p, features)
    np.testing.assert_allclose(vectors, expected(features, p), atol=1e-5)
    assert [part.shape for part in split_blocks(vectors, D)] == [(B, D), (B, D)]
    assert MODEL.compared == Compared(with_text=((0, 0), (1, 1)))


def test_a_space_without_its_modalities_is_zero_and_has_no_gradient(made):
    features, p = made
    present = {"activity": np.array([1, 0, 0, 1], bool), "audio": np.array([1, 1, 0, 0], bool)}
    seen = {m: np.where(present[m][:, None], x, 0) if m in present else x
            for m, x in features.items()}  # fmt: skip

    def total(p):
        vectors = apply(MODEL, p, seen, present=present)
        return vectors[2, D:].sum(), vectors

    gradient, vectors = jax.jit(jax.grad(total, has_aux=True))(p)
    want = expected(seen, p)
    want[2, D:] = 0  # the third video has neither; the others have one or both
    np.testing.assert_allclose(vectors, want, atol=1e-5)
    assert not any(np.asarray(leaf).any() for leaf in gradient.values())


def test_layouts_are_names_of_spaces(made):
    one = replace(MODEL, spaces=("object+activity+audio",))
    assert one.groups == (("object", "activity", "audio"),)
    assert one.size == D
    twice = replace(MODEL, spaces=("object+audio", "object+audio"))  # the control of two copies
    assert twice.modalities == ("object", "audio")
    assert twice.size == 2 * D


def test_dropout_is_drawn_for_each_space_and_only_with_a_key(made):
    features, p = made
    model = replace(MODEL, spaces=("object", "object"), feature_dropout=0.5)
    p = {n: p[n.replace("/1/", "/0/")] for n in p}  # both maps are the same
    plain, dropped = jax.jit(
        lambda p, x: [apply(model, p, x, key) for key in (None, jax.random.key(0))]
    )(p, features)
    np.testing.assert_array_equal(plain[:, :D], plain[:, D:])
    assert np.abs(np.asarray(dropped[:, :D] - dropped[:, D:])).max() > 0.01


def test_each_space_has_its_own_text_encoder():
    network = MODEL.texts
    x = np.random.default_rng(1).normal(size=(B, E)).astype(np.float32)

    def run(key):
        p = initialise(network, {"sentences": E}, key)
        return p, apply(network, p, {"sentences": x})

    p, vectors = jax.jit(run)(jax.random.key(0))
    p = {name: np.asarray(value) for name, value in p.items()}
    kernels = [p[f"texts/{n}/layers/0/kernel"] for n in range(2)]
    assert np.abs(kernels[0] - kernels[1]).max() > 0.01
    np.testing.assert_allclose(
        vectors, np.concatenate([unit(x @ kernel) for kernel in kernels], axis=1), atol=1e-5
    )


@pytest.mark.fault(
    "Captions: spaces that name a modality twice, or one that the data lacks",
    "refused before training, naming the space and the data's modalities",
)
def test_spaces_that_do_not_fit_are_refused():
    for spaces, message in [
        ((), "one or more"),
        (("object+",), "'object\\+' must be distinct names"),
        (("object+object",), "must be distinct names"),
    ]:
        with pytest.raises(ValueError, match=message):
            JointSpaces(spaces=spaces)
    with pytest.raises(ValueError, match="outside"):
        JointSpaces(feature_dropout=1.0)
    with pytest.raises(ValueError, match=r"data has \['audio', 'visual'\]: no 'object'"):
        MODEL.check({"visual": 4, "audio": 2})

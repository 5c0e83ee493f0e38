"""The benchmark of label classifiers runs at a small size (experiments.benchmarks.annotation)."""

import json

import jax
import numpy as np
import pytest

from experiments.benchmarks import annotation, bench
from vidembed.distributed import mesh as meshes
from vidembed.models.mixture_of_experts import MixtureOfExperts


@pytest.mark.long
def test_reports_updates_and_scores(tmp_path, monkeypatch):
    monkeypatch.setattr(bench, "FOLDER", tmp_path)
    monkeypatch.setattr(annotation, "SQUARE", 64)
    monkeypatch.setattr(annotation, "COPIED", 1024)
    annotation.main(videos=8, size=4, mixtures=(2, 3), classes=(30, 20), rounds=2)
    rows = json.loads((tmp_path / "annotation.json").read_text())["rows"]
    cases = [
        f"H = {h}, {c} classes: {kind}"
        for h, c in ((2, 30), (3, 20))
        for kind in ("update", "update, plain", "scores", "scores, the product alone")
    ]
    assert [row["case"] for row in rows if "peer" not in row["case"]] == cases
    assert all(row["seconds"] > 0 and row["limit_seconds"] > 0 for row in rows)


def test_both_versions_have_one_loss_and_gradient():
    model = MixtureOfExperts(mixtures=3)
    z, labels = annotation.batch(40, 5, 8)
    biases = np.full(40, -2.0, np.float32)
    parameters = model.initialise(jax.random.key(0), size=5, biases=biases)
    with jax.set_mesh(meshes.make_mesh(meshes.MeshShape(), jax.devices()[:1])):
        plain, ours = (
            jax.jit(jax.value_and_grad(loss), static_argnums=3)(parameters, z, labels, 40)
            for loss in (annotation.plain, annotation.weighted(model))
        )
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, 1e-4, 1e-6), plain, ours)


def test_the_peer_takes_the_same_steps():
    pytest.importorskip("torch", reason="PyTorch is an extra: pip install -e '.[bench]'")
    model = MixtureOfExperts(mixtures=3)
    with jax.set_mesh(meshes.make_mesh(meshes.MeshShape(), jax.devices()[:1])):
        ours, _ = annotation.update(model, annotation.weighted(model), 40, 5, 8)
        theirs, _ = annotation.peer(model, 40, 5, 8)
        both = np.array([(float(ours()[0]), theirs()) for _ in range(3)])
    assert (both[1:] < both[:-1]).all()
    np.testing.assert_allclose(both[:, 1], both[:, 0], rtol=1e-4)


def test_a_limit_is_products_and_bytes_of_the_same_round():
    seconds = {bench.FULL: [2.0, 4.0], annotation.COPY: [1.0, 1.0], "case": [6.0, 20.0]}
    operations, moved = 2 * annotation.SQUARE**3, 2 * 8 * annotation.COPIED
    row = annotation.row("case", seconds, operations, moved, 7)
    assert row.ratio == pytest.approx((6 / 4 + 20 / 6) / 2)
    assert (row.seconds, row.peak_bytes) == (13.0, 7)
    assert row.note.endswith("best 1.50")

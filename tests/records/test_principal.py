"""Principal directions against scikit-learn, and on another number of devices."""

import jax
import numpy as np
from sklearn.decomposition import PCA

from vidembed.distributed.mesh import MeshShape, make_mesh
from vidembed.records import principal
from vidembed.records.bytecode import dequantise
from vidembed.records.statistics import train_statistics
from vidembed.records.table import FeatureTable

VIDEOS = 301


def test_directions_are_those_of_scikit_learn_on_any_devices(monkeypatch):
    rng = np.random.default_rng(0)
    mixed = rng.normal(size=(VIDEOS, 7)) * np.arange(1, 8) @ rng.normal(size=(7, 7))
    table = FeatureTable(
        ids=np.arange(VIDEOS).astype("S4"),
        features={
            "visual": np.clip(mixed * 3 + 120, 0, 255).astype(np.uint8),
            "audio": mixed[:, :4].astype(np.float32),
        },
        present={"audio": rng.random(VIDEOS) < 0.7},
        label_offsets=np.zeros(VIDEOS + 1, np.int64),
        label_values=np.zeros(0, np.int32),
    )
    is_train = rng.random(VIDEOS) < 0.6
    means = {m: known["mean"] for m, known in train_statistics(table, is_train).items()}
    monkeypatch.setattr(principal, "BLOCK_ROWS", 48)  # several blocks, the last one not full
    eight = principal.principal_directions(table, is_train, means)
    single = make_mesh(MeshShape(), jax.devices()[:1])
    for modality, result in eight.items():
        rows = dequantise(table.features[modality][is_train & table.has(modality)])
        oracle = PCA().fit(rows.astype(np.float64))
        variances = oracle.explained_variance_ * (len(rows) - 1) / len(rows)
        np.testing.assert_allclose(result["variances"], variances, rtol=2e-4)
        cosines = np.abs(np.sum(result["directions"] * oracle.components_.T, axis=0))
        np.testing.assert_allclose(cosines, 1, atol=1e-4)
        largest = np.abs(result["directions"]).argmax(axis=0)
        assert (result["directions"][largest, np.arange(len(largest))] > 0).all()
        alone = principal.principal_directions(table, is_train, means, mesh=single)[modality]
        np.testing.assert_allclose(alone["directions"], result["directions"], atol=1e-5)

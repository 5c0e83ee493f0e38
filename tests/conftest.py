"""Every test sees eight simulated devices, so that none that is about sharding passes vacuously."""

import os
import tempfile
from importlib.metadata import version

os.environ["XLA_FLAGS"] = (
    os.environ.get("XLA_FLAGS", "") + " --xla_force_host_platform_device_count=8"
)
if "OPTIMISED" not in os.environ:
    # What is tested is what runs, not how fast. `make test-long` compiles as users do.
    os.environ["XLA_FLAGS"] += (
        " --xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true"
    )
    if version("jaxlib") < "0.11":  # an unknown flag ends the process
        # Halves the time to compile a step.
        os.environ["XLA_FLAGS"] += " --xla_cpu_use_fusion_emitters=false"
os.environ.setdefault("JAX_PLATFORMS", "cpu")
# Two threads of BLAS that wait for cores which other workers use take ten times as long as one.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
# Many tests compile the same small step: each compilation is kept for the session, and the workers
# and the processes that tests start share them.
if "JAX_COMPILATION_CACHE_DIR" not in os.environ:
    kept = tempfile.TemporaryDirectory(prefix="compiled")
    os.environ["JAX_COMPILATION_CACHE_DIR"] = kept.name
    os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0"
    os.environ["JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES"] = "-1"

from dataclasses import replace

import jax
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from etils import epath
from etils.epath import backend
from fsspec.registry import _registry

from tests.bucket import Bucket
from vidembed.corpora.watched import CorpusPaths
from vidembed.graph.affinity import affinity_clusters
from vidembed.graph.hierarchy import write_hierarchy
from vidembed.records.table import FeatureTable

jax.config.update("jax_numpy_rank_promotion", "raise")


@pytest.fixture(scope="session", autouse=True)
def eight_devices():
    assert len(jax.devices()) == 8


@pytest.fixture(autouse=True)
def no_mesh_is_left_behind():
    yield
    left = jax.sharding.get_abstract_mesh()
    assert left.empty, f"the test left {left} set"


@pytest.fixture(scope="session")
def corpus_paths(tmp_path_factory):
    """300 videos of 20 groups; features show the group, edges join its members. Files on disk."""
    rng = np.random.default_rng(0)
    videos, groups = 300, 20
    group = np.arange(videos) % groups
    centres = rng.normal(size=(groups, 12))
    noisy = np.clip((centres[group] + 0.5 * rng.normal(size=(videos, 12))) * 40 + 128, 0, 255)
    table = FeatureTable(
        ids=np.array([f"v{i:04d}" for i in range(videos)], "S5"),
        features={
            "visual": noisy[:, :8].astype(np.uint8),
            "audio": noisy[:, 8:].astype(np.uint8),
        },
        label_offsets=np.arange(videos + 1, dtype=np.int64),
        label_values=group.astype(np.int32),
    )
    folder = tmp_path_factory.mktemp("corpus")
    table.write(folder / "table")
    one, other = np.triu_indices(videos, 1)
    related = (group[one] == group[other]) & (rng.random(len(one)) < 0.5)
    edges = {
        "source": table.ids[one[related]].astype(str),
        "target": table.ids[other[related]].astype(str),
        "weight": rng.integers(2, 9, related.sum()).astype(np.float64),
    }
    pq.write_table(pa.table(edges), folder / "edges.parquet")
    return CorpusPaths(table=str(folder / "table"), edges=str(folder / "edges.parquet"))


@pytest.fixture(scope="session")
def corpus(corpus_paths):
    return corpus_paths.open()


@pytest.fixture(scope="session")
def clustered_paths(corpus_paths, corpus, tmp_path_factory):
    """The same videos with the clusters of their train graph: 3 rounds of at most 6 videos."""
    path = str(tmp_path_factory.mktemp("clusters") / "hierarchy.parquet")
    hierarchy = affinity_clusters(corpus.train_graph, corpus.is_train, rounds=3, max_size=6)
    write_hierarchy(hierarchy, path, corpus.table.ids)
    return replace(corpus_paths, hierarchy=path)


@pytest.fixture(scope="session")
def clustered(clustered_paths):
    return clustered_paths.open()


@pytest.fixture
def bucket(monkeypatch):
    """A folder of a gs:// that lives in memory, empty."""
    for name in Bucket.protocol:
        monkeypatch.setitem(_registry, name, Bucket)
    monkeypatch.setattr(Bucket, "store", {})
    monkeypatch.setattr(Bucket, "pseudo_dirs", [""])
    monkeypatch.setattr(Bucket, "requests", [])
    backend.fsspec_backend._get_filesystem.cache_clear()
    Bucket.clear_instance_cache()
    yield epath.Path("gs://videos/eight")
    backend.fsspec_backend._get_filesystem.cache_clear()

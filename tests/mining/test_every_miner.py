"""Properties of every miner; add a new miner to MINERS."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vidembed.distributed import mesh as meshes
from vidembed.mining import Forbidden, Hardest, NoMining, SemiHard, SemiHardRandom
from vidembed.pairwise import squared_distance

CHOOSING = [
    SemiHard(block=5),
    SemiHard(block=5, inside_margin=True),
    Hardest(block=5),
    SemiHardRandom(block=5),
]
MINERS = [*CHOOSING, NoMining()]
OPTIONS = {"key": jax.random.key(3), "margin": 0.3}


@pytest.fixture(params=MINERS, ids=lambda miner: repr(miner).partition(", operands")[0])
def miner(request):
    return request.param


MESHES = [(1, 1), (2, 1), (8, 1), (4, 2)]


@pytest.mark.parametrize("shape", MESHES, ids=lambda shape: "data {} model {}".format(*shape))
def test_any_number_of_devices_chooses_the_same(miner, shape, make_case, monkeypatch):
    # The pairs of a block are read in several windows.
    monkeypatch.setattr("vidembed.mining.blockwise.WINDOW", 7)
    # 48 anchors divide by 8 devices, but not by the block of 5 on each of them.
    case = make_case(0, anchors=48, pool=96, pairs=6, exact=False)
    index, found = jax.jit(partial(miner, **OPTIONS))(*case.arguments)

    def on_one_device(anchor, positive, part_of_pool, forbidden):
        pool = meshes.gather(part_of_pool, axis=0)
        offset = meshes.device_number() * len(anchor)
        return miner(anchor, positive, pool, forbidden, **OPTIONS, anchor_offset=offset)

    rows, whole = meshes.everywhere_spec(0), jax.sharding.PartitionSpec()
    devices = jax.devices()[: shape[0] * shape[1]]
    with jax.set_mesh(meshes.make_mesh(meshes.MeshShape(data=shape[0], model=shape[1]), devices)):
        sharded = jax.shard_map(
            on_one_device,
            in_specs=(rows, rows, rows, whole),
            out_specs=(rows, rows),
        )
        sharded_index, sharded_found = jax.jit(sharded)(*case.arguments)
    np.testing.assert_array_equal(sharded_found, found)
    np.testing.assert_array_equal(sharded_index, index)


def test_no_gradient_flows_through_the_choice(miner, make_case):
    case = make_case(0, anchors=6, pool=20, pairs=2, exact=False)

    def mined(anchor, positive, pool):
        index, found = miner(anchor, positive, pool, case.forbidden, **OPTIONS)
        distance = squared_distance(anchor, pool[index])
        return jnp.where(found, distance, jnp.zeros_like(distance)).sum(), (index, found)

    arguments = case.anchor, case.positive, case.pool
    gradients, (index, found) = jax.jit(jax.grad(mined, (0, 1, 2), has_aux=True))(*arguments)
    reached = np.where(np.asarray(found)[:, None], 2 * (case.anchor - case.pool[index]), 0)
    pool_gradient = np.zeros_like(case.pool)
    np.add.at(pool_gradient, index, -reached)
    np.testing.assert_allclose(gradients[0], reached, atol=1e-6)
    np.testing.assert_array_equal(gradients[1], 0)
    np.testing.assert_allclose(gradients[2], pool_gradient, atol=1e-6)


@pytest.mark.parametrize("miner", CHOOSING, indirect=True, ids=repr)
def test_differentiating_makes_no_second_product(miner, make_case):
    case = make_case(0, anchors=6, pool=20, pairs=2)

    def run(anchor, positive, pool):
        return miner(anchor, positive, pool, case.forbidden, **OPTIONS)

    arguments = case.anchor, case.positive, case.pool
    text = str(jax.make_jaxpr(lambda *x: jax.jvp(run, x, x))(*arguments))
    assert text.count("dot_general") == 1


@pytest.mark.fault("Scores: NaN in embeddings or similarities")
@pytest.mark.parametrize("miner", CHOOSING, indirect=True, ids=repr)
def test_nan_is_never_chosen_and_chooses_nothing(miner, make_case):
    case = make_case(0, anchors=20, pool=60, pairs=2, exact=False)
    index, found = jax.jit(partial(miner, **OPTIONS))(*case.arguments)
    anchor, pool = case.anchor.copy(), case.pool.copy()
    anchor[3] = np.nan
    unchosen = np.setdiff1d(np.arange(60), index)[::2]
    pool[unchosen] = np.nan
    broken = case._replace(anchor=anchor, pool=pool)
    broken_index, broken_found = jax.jit(partial(miner, **OPTIONS))(*broken.arguments)
    assert not broken_found[3]
    others = np.arange(20) != 3
    # Anchors that had not chosen a broken row choose as before.
    np.testing.assert_array_equal(broken_found[others], found[others])
    np.testing.assert_array_equal(broken_index[others], index[others])


@pytest.mark.parametrize(("anchors", "pool"), [(0, 5), (3, 0)])
def test_nothing_to_mine_is_no_error(miner, anchors, pool, make_case):
    case = make_case(0, anchors=anchors, pool=pool, pairs=2)
    index, found = jax.jit(partial(miner, **OPTIONS))(*case.arguments)
    assert index.shape == found.shape == (anchors,)
    assert not np.any(found)


def test_all_forbidden_finds_nothing(miner, make_case):
    case = make_case(0, anchors=4, pool=6, pairs=6, candidate_share=1)
    case = case._replace(pairs=np.tile(np.arange(6, dtype=np.int32), (4, 1)))
    assert not np.any(miner(*case.arguments, **OPTIONS)[1])


def test_memory_of_the_papers_batch(miner):
    """7,200 triplets, 21,600 embeddings as pool, 48 forbidden per anchor; compiled, not run."""
    shape = jax.ShapeDtypeStruct
    vectors = partial(shape, dtype=jnp.float32)
    forbidden = Forbidden(shape((2, 7200 * 48), jnp.int32), shape((21600,), jnp.bool_))
    # With the default block instead of the small one of the tests.
    run = jax.jit(lambda a, p, n, f: type(miner)()(a, p, n, f, **OPTIONS))
    compiled = run.lower(
        vectors((7200, 256)), vectors((7200, 256)), vectors((21600, 256)), forbidden
    ).compile()
    assert compiled.memory_analysis().temp_size_in_bytes < 130e6

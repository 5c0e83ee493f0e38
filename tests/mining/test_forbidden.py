import jax
import jax.numpy as jnp
import numpy as np

from vidembed.mining.forbidden import Forbidden, mask


def test_mask_takes_out_pairs_and_what_is_no_candidate():
    scores = jnp.arange(8.0).reshape(2, 4)
    forbidden = Forbidden(
        pairs=np.array([[1, 4, 1000], [3, 3, 0]], np.int32),
        candidates=np.array([True, True, False, True]),
    )
    none = -np.inf
    np.testing.assert_array_equal(
        jax.jit(mask)(scores, forbidden), [[0, none, none, 3], [none, 5, none, none]]
    )


def test_mask_of_no_pairs():
    scores = jnp.ones((2, 3))
    forbidden = Forbidden(np.zeros((2, 0), np.int32), np.ones(3, bool))
    np.testing.assert_array_equal(mask(scores, forbidden), scores)

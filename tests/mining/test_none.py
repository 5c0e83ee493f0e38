import jax

from vidembed.mining import NoMining


def test_never_finds_anything(circle):
    index, found = jax.jit(NoMining())(*circle.arguments, key=jax.random.key(0), margin=0.1)
    assert list(index) == [0] * 4
    assert list(found) == [False] * 4
    assert index.dtype == "int32"

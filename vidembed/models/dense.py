"""One dense layer, in float32 or with bfloat16 operands and float32 sums."""

from typing import Literal

import jax
import jax.numpy as jnp
from flax import nnx

Compute = Literal["float32", "bfloat16"]


def _narrow(x: jax.Array) -> jax.Array:
    return x.astype(jnp.bfloat16)


@jax.custom_vjp
def product_bfloat16(x: jax.Array, kernel: jax.Array) -> jax.Array:
    """x bf16[..., F] times kernel f32[F, D] rounded to bfloat16: f32[..., D], sums in float32.

    The gradient's products are done the same way. JAX's own rule would multiply a float32
    cotangent, which runs at the rate of float32. The gradient of the kernel stays float32.
    """
    return jnp.matmul(x, _narrow(kernel), preferred_element_type=jnp.float32)


def _forward(x: jax.Array, kernel: jax.Array) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
    return product_bfloat16(x, kernel), (x, _narrow(kernel))


def _backward(
    saved: tuple[jax.Array, jax.Array], gradient: jax.Array
) -> tuple[jax.Array, jax.Array]:
    x, kernel = saved
    gradient = _narrow(gradient)
    along_x = jnp.matmul(gradient, kernel.T, preferred_element_type=jnp.float32)
    # Summed over the rows as they lie: a reshape to two axes would join a whole axis with one that
    # is split over devices, for which every device would be sent all activations.
    rows = tuple(range(x.ndim - 1))
    along_kernel = jax.lax.dot_general(
        x, gradient, ((rows, rows), ((), ())), preferred_element_type=jnp.float32
    )
    return _narrow(along_x), along_kernel


product_bfloat16.defvjp(_forward, _backward)


class Dense(nnx.Module):
    """f32[..., F] → f32[..., D]; kernel f32[F, D] drawn by LeCun's rule, bias f32[D] zero."""

    def __init__(self, inputs: int, outputs: int, *, compute: Compute, rngs: nnx.Rngs) -> None:
        draw = nnx.initializers.lecun_normal()
        self.kernel = nnx.Param(draw(rngs.params(), (inputs, outputs), jnp.float32))
        self.bias = nnx.Param(jnp.zeros((outputs,), jnp.float32))
        self.compute = compute

    def __call__(self, x: jax.Array) -> jax.Array:
        kernel, bias = self.kernel[...], self.bias[...]
        if self.compute == "bfloat16":
            product = product_bfloat16(_narrow(x), kernel)
        else:
            # Asked for, since TPUs and GPUs round the operands of a plain product.
            product = jnp.matmul(x, kernel, precision=jax.lax.Precision.HIGHEST)
        return product + jnp.broadcast_to(bias, product.shape)

"""The annotation benchmark's peer: the same mixture of experts, loss and optimiser in PyTorch.

What a careful user would write: whole logits, logsumexp, fused Adam. Needs torch
(`pip install -e '.[bench]'`).
"""

import os
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from torch.nn import functional

from vidembed.models.mixture_blocks import BIASES, EXPERTS, GATES


def updates(
    parameters: Mapping[str, Any], z: np.ndarray, labels: np.ndarray, count: int, rate: float
) -> Callable[[], float]:
    """A function that takes one more step from these parameters and returns the loss before it.

    z f32[B, D], labels i32[B, L] padded with −1. The gradient by z is computed, too.
    """
    torch.set_num_threads(os.cpu_count() or 1)
    learnt = {n: torch.tensor(np.asarray(a), requires_grad=True) for n, a in parameters.items()}
    optimiser = torch.optim.Adam(learnt.values(), lr=rate, fused=True)
    inputs = torch.tensor(z, requires_grad=True)
    places = torch.from_numpy(np.asarray(labels)).long()

    def step() -> float:
        loss = loss_of(learnt, inputs, places, count)
        optimiser.zero_grad(set_to_none=True)
        inputs.grad = None
        loss.backward()
        optimiser.step()
        return float(loss.detach())

    return step


def loss_of(
    parameters: Mapping[str, torch.Tensor], z: torch.Tensor, labels: torch.Tensor, count: int
) -> torch.Tensor:
    """The mean negative log-likelihood of a batch, summed over classes."""
    e = _product(z, parameters[EXPERTS]) + parameters[BIASES]
    g = _product(z, parameters[GATES])
    right = g[..., 1:] - functional.softplus(-e)
    wrong = torch.cat([g[..., :1], g[..., 1:] - functional.softplus(e)], dim=2)
    every = torch.logsumexp(g, dim=2)
    log_p, log_rest = (torch.logsumexp(joint, dim=2) - every for joint in (right, wrong))
    own = (log_rest - log_p).gather(1, labels.clamp(min=0))
    return ((own * (labels >= 0)).sum(1) - log_rest[:, :count].sum(1)).mean()


def _product(z: torch.Tensor, kernel: torch.Tensor) -> torch.Tensor:
    """[B, C, H] of z [B, D] and kernel [C, H, D], as one product."""
    return (z @ kernel.flatten(0, 1).T).unflatten(1, kernel.shape[:2])

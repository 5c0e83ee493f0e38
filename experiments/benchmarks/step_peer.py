"""The step benchmark's peer: the same network, miner, loss and optimiser in PyTorch.

What a careful user would write: fused Adam, `autocast` for bfloat16, mining in blocks without a
gradient. Needs torch (`pip install -e '.[bench]'`).
"""

import os
from collections.abc import Callable, Mapping
from typing import Any, Literal

import numpy as np
import torch
from torch.nn import functional

from vidembed.engine.recipe import Recipe
from vidembed.models.fusion import Layers
from vidembed.records.bytecode import OFFSET, STEP
from vidembed.tasks.metric_learning import MetricLearning

BLOCK = 144


class LateFusion(torch.nn.Module):
    """A tower a modality; their outputs are multiplied and normalised."""

    def __init__(self, widths: Mapping[str, int], layers: Layers) -> None:
        super().__init__()
        (hidden,) = layers.hidden
        self.towers = torch.nn.ModuleDict(
            {
                name: torch.nn.Sequential(
                    torch.nn.Dropout(layers.input_dropout),
                    torch.nn.Linear(width, hidden),
                    torch.nn.ReLU(),
                    torch.nn.Linear(hidden, layers.size),
                )
                for name, width in widths.items()
            }
        )
        for name, width in widths.items():
            self.register_buffer(f"{name}_mean", torch.zeros(width))
            self.register_buffer(f"{name}_scale", torch.ones(width))

    def forward(self, features: Mapping[str, torch.Tensor]) -> torch.Tensor:
        """u8[..., F] a modality → unit vectors f32[..., D]."""
        product = torch.ones(())
        for name, tower in self.towers.items():
            values = features[name].float() * STEP + OFFSET
            values = (values - self.get_buffer(f"{name}_mean")) * self.get_buffer(f"{name}_scale")
            product = product * tower(values).float()
        return functional.normalize(product, dim=-1)


def semi_hard(
    anchor: torch.Tensor, positive: torch.Tensor, pool: torch.Tensor, forbidden: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """The nearest negative that is farther than the positive: (index i64[B], found bool[B]).

    The vectors stay float32, as by default in ours.
    """
    indices, found = [], []
    with torch.no_grad(), torch.autocast("cpu", enabled=False):
        reference = (anchor * positive).sum(1, keepdim=True)
        for start in range(0, len(anchor), BLOCK):
            some = slice(start, start + BLOCK)
            scores = anchor[some] @ pool.T
            scores.scatter_(1, forbidden[some], -torch.inf)
            scores.masked_fill_(scores >= reference[some], -torch.inf)
            value, index = scores.max(1)
            indices.append(index)
            found.append(value > -torch.inf)
    return torch.cat(indices), torch.cat(found)


def loss_of(
    model: LateFusion, features: Mapping[str, torch.Tensor], drawn: Mapping[str, Any], margin: float
) -> torch.Tensor:
    """The mean hinge loss of a batch of u8[3, B, F]; an anchor without a mined negative takes its
    sampled one, where that is allowed."""
    negatives, positive, anchor = model(features)
    pool = torch.cat([negatives, positive, anchor])
    # As many pairs for each anchor, so that the flat list is a table.
    forbidden = torch.from_numpy(drawn["forbidden"][1]).long().reshape(len(anchor), -1)
    sampled = torch.from_numpy(drawn["negative_slot"]).long()
    mined, found = semi_hard(anchor, positive, pool, forbidden)
    trained = found | torch.from_numpy(drawn["negative_allowed"])
    negative = pool[torch.where(found, mined, sampled)]
    to_positive = (anchor - positive).square().sum(1)
    to_negative = (anchor - negative).square().sum(1)
    loss = functional.relu(to_positive - to_negative + margin)
    return (loss * trained).sum() / trained.sum().clamp(min=1)


def square_product(side: int) -> Callable[[], torch.Tensor]:
    """The bare product of side³ in float32: what PyTorch's own steps are limited by."""
    torch.set_num_threads(os.cpu_count() or 1)
    square = torch.randn(side, side)
    return lambda: square @ square


def updates(
    recipe: Recipe,
    model: LateFusion,
    features: Mapping[str, np.ndarray],
    drawn: Mapping[str, np.ndarray],
    *,
    compute: Literal["float32", "bfloat16"],
) -> Callable[[], float]:
    """A function that takes one more step of `model` and returns the loss before it."""
    assert isinstance(recipe.task, MetricLearning)
    margin = recipe.task.loss.margin
    torch.set_num_threads(os.cpu_count() or 1)
    tables = {name: torch.from_numpy(table) for name, table in features.items()}
    rows = torch.from_numpy(drawn["rows"]).long()
    optimiser = torch.optim.Adam(model.parameters(), lr=recipe.optimiser.learning_rate, fused=True)

    def step() -> float:
        batch = {name: table[rows] for name, table in tables.items()}
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=compute == "bfloat16"):
            loss = loss_of(model, batch, drawn, margin)
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        optimiser.step()
        return float(loss.detach())

    return step

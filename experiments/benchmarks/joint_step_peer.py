"""The joint step's peer in PyTorch: the same spaces, GRUs, weighted loss and optimiser.

What a careful user would write: packed sequences, fused Adam, one product per space for all
similarities. Needs torch (`pip install -e '.[bench]'`).
"""

import os
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch.nn import functional
from torch.nn.utils.rnn import pack_padded_sequence

from vidembed.engine.recipe import Recipe

MARGIN = 0.2


class Space(torch.nn.Module):
    """A linear map of joined features, and a GRU over words."""

    def __init__(self, inputs: int, words: int, units: int, embedding: int) -> None:
        super().__init__()
        self.map = torch.nn.Linear(inputs, units)
        self.embedding = torch.nn.Embedding(words, embedding)
        self.gru = torch.nn.GRU(embedding, units, batch_first=True)

    def forward(
        self, features: torch.Tensor, tokens: torch.Tensor, lengths: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Unit vectors of videos and captions."""
        packed = pack_padded_sequence(
            self.embedding(tokens), lengths, batch_first=True, enforce_sorted=False
        )
        _, state = self.gru(packed)
        return functional.normalize(self.map(features)), functional.normalize(state[0])


def weighted(videos: torch.Tensor, texts: torch.Tensor) -> torch.Tensor:
    """The hardest hinge in both directions, weighted by the rank of the true match."""
    scores = videos @ texts.T
    own = scores.diag()
    others = scores.masked_fill(torch.eye(len(scores), dtype=torch.bool), -torch.inf)
    total = scores.new_zeros(())
    for axis in (1, 0):
        positive = own[:, None] if axis == 1 else own[None]
        rank = 1 + (others > positive).sum(axis)
        weight = 1 + 1 / (len(own) - rank + 1)
        total = total + (weight * functional.relu(MARGIN + others.amax(axis) - own)).mean()
    return total


def updates(
    batch: Mapping[str, Any],
    widths: Mapping[str, int],
    words: int,
    units: int,
    embedding: int,
    recipe: Recipe,
) -> Callable[[], float]:
    """A function that takes one more step and returns the loss before it."""
    torch.set_num_threads(os.cpu_count() or 1)
    groups = (("object",), ("activity", "audio"))
    spaces = torch.nn.ModuleList(
        Space(sum(widths[m] for m in group), words, units, embedding) for group in groups
    )
    rule = torch.optim.Adam(spaces.parameters(), lr=recipe.optimiser.learning_rate, fused=True)
    features = {m: torch.from_numpy(array) for m, array in batch["features"].items()}
    tokens, lengths = torch.from_numpy(batch["tokens"]).long(), torch.from_numpy(batch["words"])

    def step() -> float:
        rule.zero_grad(set_to_none=True)
        losses = []
        for group, space in zip(groups, spaces):
            joined = torch.cat([features[m] for m in group], dim=1)
            losses.append(weighted(*space(joined, tokens, lengths.long())))
        loss = torch.stack(losses).sum()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(spaces.parameters(), recipe.optimiser.clip_norm)
        rule.step()
        return float(loss.detach())

    return step

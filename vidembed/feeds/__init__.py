"""Batches for training steps, as pure functions of seed and step."""

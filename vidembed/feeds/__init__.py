"""What a training step is fed: batches that are pure functions of seed and step."""

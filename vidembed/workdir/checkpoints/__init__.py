"""Checkpoints of a run: Orbax holds the arrays, a record of digests the promise."""

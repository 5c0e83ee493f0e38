"""Checkpoints of a run: arrays stored by Orbax, with digests to verify them."""

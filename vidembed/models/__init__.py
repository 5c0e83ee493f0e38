"""Embedding networks: the only importer of Flax."""

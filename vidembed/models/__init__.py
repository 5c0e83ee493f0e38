"""Embedding networks; only this folder imports Flax."""

"""Retrieval metrics and their confidence intervals."""

"""Retrieval metrics and their intervals."""

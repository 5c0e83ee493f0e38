"""Evaluators: measure the quality of a trained embedding."""

"""Evaluators: what is measured of a trained embedding."""

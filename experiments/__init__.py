"""Recipes and their command lines."""

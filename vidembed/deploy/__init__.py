"""Use a trained run: embed videos, index them, export the model."""

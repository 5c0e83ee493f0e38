"""Losses: arrays in, one unreduced f32[B] out."""

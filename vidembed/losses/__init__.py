"""Losses: functions from arrays to one unreduced f32[B]."""

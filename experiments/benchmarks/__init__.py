"""Measurements against the limits of the machine and against peers."""

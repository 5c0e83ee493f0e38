"""Verbs, the command line, and what a terminal shows."""

"""Vectors put to use: indexes that are searched, added to, and swapped whole. Arrays only."""

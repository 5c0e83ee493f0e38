"""A run put to use: its vectors, an index of them, an export."""

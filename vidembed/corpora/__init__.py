"""The data of a run: videos and their relations, opened and checked."""

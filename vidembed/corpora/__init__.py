"""What a run is about: videos and what relates them, opened and checked."""

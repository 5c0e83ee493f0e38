"""Real video in: frames, sound and features from video files."""

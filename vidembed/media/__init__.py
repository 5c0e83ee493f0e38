"""Video files: frames, sound, and features from networks that run over them."""

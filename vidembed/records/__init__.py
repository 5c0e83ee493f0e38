"""Read features from disk into arrays: TFRecord framing, YouTube-8M messages, feature tables."""

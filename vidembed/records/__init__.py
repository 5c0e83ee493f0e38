"""Bytes on disk become arrays: TFRecord framing, YouTube-8M messages, the feature table."""

"""A run on disk: layout, lease, journal, measurements, versions, checkpoints."""

"""Checkpoints on a hub: read by ranges while they are converted, and never kept."""

"""Decoders whose feed-forward networks are mixtures of experts."""

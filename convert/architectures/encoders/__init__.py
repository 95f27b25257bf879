"""Models that make embeddings and write nothing."""

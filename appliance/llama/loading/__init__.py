"""From the file of a model to its weights in memory. Knows no vocabulary and no context."""

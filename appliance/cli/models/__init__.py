"""Models on this machine: how they come, what they are, how they go."""

"""The speed gate: this commit's tokens/s beside the last release's, on one machine."""

"""What to do when a worker dies of how it computes."""

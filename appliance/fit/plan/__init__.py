"""What a choice needs, which one is made, and why. Measures nothing."""

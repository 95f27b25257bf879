"""What was found by measuring, and the measuring itself."""

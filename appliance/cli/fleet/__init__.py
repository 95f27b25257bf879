"""What a user asks of a fleet, at the terminal."""

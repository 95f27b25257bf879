"""What this machine has. Knows no model."""

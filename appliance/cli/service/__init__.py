"""What `appliance serve` runs, put together from the settings."""

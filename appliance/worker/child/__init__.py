"""The worker process. Knows no HTTP and no settings."""

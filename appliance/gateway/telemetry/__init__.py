"""What is counted, timed and written down of requests, models and memory."""

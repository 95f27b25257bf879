"""From a model's name to a running worker. Knows no HTTP and prints nothing."""

"""A fleet that serves: doors that take requests, replicas that answer them, Ray Serve between."""

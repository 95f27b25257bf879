"""Requests that nobody would send, to a real worker: none of them costs it its life."""

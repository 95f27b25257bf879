"""Tokens per second of several servers, over streams and over what each stream has in its cache.

Knows how to drive servers that are started from a command line; knows no server.
"""

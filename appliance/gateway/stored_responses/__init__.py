"""Responses and conversations that clients may come back to by their ids.

Knows no wire format: what it keeps is JSON of whoever writes it.
"""

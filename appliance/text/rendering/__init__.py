"""Rendering a chat template where it can harm nothing: in a process of its own, within limits.

Knows no tokens and no requests.
"""

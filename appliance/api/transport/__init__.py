"""How bytes come in and go out: bodies, guards, connections, frames.

Knows no wire format.
"""

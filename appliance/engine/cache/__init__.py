"""Which tokens have KV cells, and which prefixes are kept.

Knows no schedule and no text.
"""

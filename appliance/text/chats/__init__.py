"""Conversations as one model reads and writes them: its template, with functions or without.

Knows no tokens, no engine and no process.
"""

"""The process boundary: the child that owns llama.cpp, and the parent's end of it.

Knows no HTTP.
"""

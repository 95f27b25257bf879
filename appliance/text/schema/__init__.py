"""JSON schemas as somebody sends them, made into what the compiler of grammars keeps to.

Knows no grammar and no native code.
"""

"""Vocabularies as OpenAI's tiktoken keeps them: a rank for each piece of bytes, and no merges.

Knows no GGUF and no weights.
"""

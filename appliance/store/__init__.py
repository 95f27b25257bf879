"""Models on disk: the catalog, the models directory, GGUF headers, conversion.

Knows nothing of memory or serving.
"""

"""The GGUF file format, read and written. Knows no checkpoint.

Source: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md
"""

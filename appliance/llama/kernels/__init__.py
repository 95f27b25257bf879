"""The kernels of our own in a child process: loaded into ggml, and compared with its own.

Knows no model and no rule of the choice.
"""

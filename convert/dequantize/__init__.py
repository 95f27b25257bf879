"""Checkpoints whose weights are already quantized: each scheme's tensors read as the floats
that they stand for, and where GGUF has the same numbers, as its blocks.
"""

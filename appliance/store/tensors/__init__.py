"""What a GGUF's table says of its tensors, checked before native code reads them.

Knows no model and no weights.
"""

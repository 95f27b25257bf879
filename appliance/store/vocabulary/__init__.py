"""What a GGUF says of its vocabulary, checked before native code reads it.

Knows no model and no tokenizer.
"""

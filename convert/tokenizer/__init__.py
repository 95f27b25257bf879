"""From a checkpoint's tokenizer to a GGUF vocabulary, and the check that both agree.

Knows no weights.
"""

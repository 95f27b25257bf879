"""From a checkpoint's tokenizer to a GGUF vocabulary. Knows no weights."""

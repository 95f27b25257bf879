"""How the next token is chosen from logits, with llama.cpp's samplers."""

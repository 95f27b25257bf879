"""llama-cpp-python's wheel for every CPU of a kind (docs/decisions/0049)."""

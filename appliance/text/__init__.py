"""Between text and tokens: chat templates in, whole characters out.

Knows no llama.cpp and no processes.
"""

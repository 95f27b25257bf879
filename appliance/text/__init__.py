"""Between text and tokens: chat templates in, whole characters out.

Knows no llama.cpp; of processes only those that render (`rendering`).
"""

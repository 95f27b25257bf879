"""What this machine has, what a model needs, and which plan joins them.

Knows no llama.cpp and no serving.
"""

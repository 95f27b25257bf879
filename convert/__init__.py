"""Turns a Hugging Face checkpoint into GGUF.

Knows no server and imports nothing of `appliance`.
"""

"""Ollama's endpoints, for its clients."""

"""Predicted against measured memory of real servers.

Run: python -m bench.memory_grid (see __main__).
"""

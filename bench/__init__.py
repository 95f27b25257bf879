"""Benchmarks: `python -m pytest bench`.

Not part of the tests: they take minutes and want an idle machine.
"""

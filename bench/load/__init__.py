"""A load generator: two OpenAI-compatible servers under the same load, by turns, and
how they compare.

`python -m bench.load run --help`; what it measures and how to read it:
docs/performance-serving.md.
"""

"""Real servers inside memory control groups: does what the plan chose survive, and
would the next better have?

`python -m bench.memory_groups --help`; what survival means and how to read the table:
docs/performance.md.
"""

"""Makes what people install without a compiler.

Knows the formats of packages; imports nothing of the appliance but its version.
`python -m release` makes everything: docs/guide/release.md.
"""

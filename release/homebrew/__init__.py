"""The appliance as a Homebrew formula, for macOS.

Knows Homebrew's form; nothing here was ever run by it.
"""

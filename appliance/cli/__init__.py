"""Command line. Knows every part below it and is known by none."""

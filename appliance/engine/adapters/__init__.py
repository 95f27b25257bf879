"""Adapters, as far as an engine has to do with them: what is told apart, and takes turns."""

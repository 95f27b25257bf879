"""Answers and vectors that need not be computed again."""

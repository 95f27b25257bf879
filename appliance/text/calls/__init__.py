"""The forms in which models write calls of functions: each is read bit by bit, and
written as a grammar.
"""

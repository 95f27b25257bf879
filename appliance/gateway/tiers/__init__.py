"""The model `auto`: which of several models answers a request, and when a larger one is asked
after all.
"""

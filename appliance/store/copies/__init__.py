"""Files of a hub that are on this machine already, elsewhere than where they are wanted.

Knows no hub but by its records.
"""

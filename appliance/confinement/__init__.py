"""Takes rights away from the process itself, by Linux's own means, for good.

Knows no worker and no model: which files are needed is handed in.
"""

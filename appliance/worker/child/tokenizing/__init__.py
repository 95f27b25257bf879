"""What a request needs before it is computed:
a prompt as tokens, a grammar compiled.
"""

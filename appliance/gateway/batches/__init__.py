"""Files that clients leave here, and batches: many requests in a file, answered when
nobody else wants the machine.

Knows no wire format and no HTTP.
"""

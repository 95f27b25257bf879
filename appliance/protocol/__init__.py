"""What crosses between rooms and processes, as plain records:
requests, events, questions, health.

Knows no transport, no wire format and no model.
"""

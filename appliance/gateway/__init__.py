"""Which model answers, who may ask, and when to stop taking requests.

Knows no HTTP and no wire format.
"""

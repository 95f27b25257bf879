"""Models of hubs that are known by name, and what is known of them before a hub is asked.

Knows nothing of this machine.
"""

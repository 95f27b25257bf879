"""The appliance: serves a GGUF model on this machine.

Knows its own version; knows nothing of any part.
"""

__version__ = "0.1.0"

"""WebSockets: their bytes, and messages in and out. Knows no message."""

"""The models that a server knows as files, and how they come and go while it serves."""

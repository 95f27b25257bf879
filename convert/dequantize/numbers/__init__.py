"""Numbers as they are stored: out of the words that hold them, and what their bits mean."""

"""The page for people: the files that a browser loads, and nothing that serves them."""

"""Who drafts tokens, and how many. Knows no model and no text."""

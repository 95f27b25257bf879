"""OpenAI's responses: items in, items and events out."""

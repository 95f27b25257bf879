"""Chat templates that are not a model's own: well-known ones, and files. Knows no model."""

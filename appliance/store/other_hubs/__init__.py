"""Hubs with another interface than Hugging Face's. Knows no model."""

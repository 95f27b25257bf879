"""Anthropic's messages: blocks in, blocks and events out."""

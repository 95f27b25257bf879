"""What becomes of computed tokens: text, reasoning and tool calls, as events."""

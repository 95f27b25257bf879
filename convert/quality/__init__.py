"""How much a quantization costs, measured. Converts nothing."""

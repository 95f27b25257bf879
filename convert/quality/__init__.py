"""What a quantization costs: measured, recorded, shown, and limited.

Converts nothing.
"""

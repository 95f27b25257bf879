"""Which weights matter most, measured on a text. Quantizes nothing."""

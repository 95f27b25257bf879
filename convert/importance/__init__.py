"""Which columns of the weights matter most, measured on a text. Quantizes nothing."""

"""Which layers go where: onto GPUs, and to helpers on other machines."""

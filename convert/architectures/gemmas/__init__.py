"""The Gemmas: norms stored as differences from one, and what each generation added."""

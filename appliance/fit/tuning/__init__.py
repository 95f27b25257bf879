"""How a model is computed, as measured. Runs nothing itself."""

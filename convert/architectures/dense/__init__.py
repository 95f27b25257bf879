"""Dense decoders that differ from the llama graph in a few words."""

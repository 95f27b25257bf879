"""LoRA adapters as PEFT saves them: as a GGUF of their own, or merged into the weights."""

"""A sealed dataset becomes a LoRA adapter."""

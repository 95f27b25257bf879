"""What is computed from a model's last layer: text, an embedding, or how relevant a
document is.
"""

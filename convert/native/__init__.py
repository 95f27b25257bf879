"""What runs llama.cpp's code, in children. Knows no checkpoint."""

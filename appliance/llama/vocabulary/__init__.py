"""What llama.cpp's vocabularies are, beside what it says of them itself.

Knows no weights and no context.
"""

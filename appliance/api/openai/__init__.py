"""OpenAI's wire formats.

Source: https://platform.openai.com/docs/api-reference. Knows no other format.
"""

"""OpenAI's files and batches.

Source: https://platform.openai.com/docs/api-reference/batch. Knows no database.
"""

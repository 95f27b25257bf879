"""What is asked and answered on WebSockets: `/v1/stream`, and `/v1/responses` as OpenAI
defines it there.

Knows no sampling: requests and records are those of the endpoints over HTTP.
"""

"""Agents that `appliance launch` sets up for a running server, each in a module of its own.

Knows no HTTP: what is known of the server is handed in.
"""

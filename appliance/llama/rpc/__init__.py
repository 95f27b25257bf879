"""Layers on other machines, by llama.cpp's RPC: what both ends of it do in a child process."""

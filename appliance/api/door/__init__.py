"""What a request passes before any endpoint sees it:
its path, its key, its host and origin, how its body is packed.
"""

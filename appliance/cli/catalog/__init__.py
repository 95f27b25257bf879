"""What commands say and do about models of a hub that have names here.

Knows no HTTP.
"""

"""The bundle as a Debian package, with the service and its user.

Knows Debian's places and rules; knows nothing of what is in the bundle.
"""

"""A scanner of a listening server: everything that somebody may send to it, and nothing
that should stay shut is open. Knows the API's routes from the application itself.
"""

"""Wire formats over one internal request and one event stream.

Knows no models, no processes and no settings.
"""

"""What a user may set, declared once; the only reader of the environment.

Knows nothing of what the values do.
"""

from appliance.settings.options import Option
from appliance.settings.serve import FIT_OPTIONS, ServeSettings, is_loopback
from appliance.settings.sources import Declared, add_flags, declared, load

__all__ = [
    "FIT_OPTIONS",
    "Declared",
    "Option",
    "ServeSettings",
    "add_flags",
    "declared",
    "is_loopback",
    "load",
]

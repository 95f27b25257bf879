"""What a user may set, declared once; the only reader of the environment.

Knows nothing of what the values do.
"""

from appliance.settings.model import ModelSettings
from appliance.settings.options import Option
from appliance.settings.per_model import ModelValue
from appliance.settings.serve import FIT_OPTIONS, ServeSettings
from appliance.settings.server_options import ServerOptions
from appliance.settings.sources import add_flags, load
from appliance.settings.values import Declared, declared

__all__ = [
    "FIT_OPTIONS",
    "Declared",
    "ModelSettings",
    "ModelValue",
    "Option",
    "ServeSettings",
    "ServerOptions",
    "add_flags",
    "declared",
    "load",
]

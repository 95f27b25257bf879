"""Which hub is asked, and as whom: HF_ENDPOINT with its token, or MODELSCOPE_ENDPOINT.

Asks nobody.
"""

from __future__ import annotations

from huggingface_hub import constants
from huggingface_hub.utils import build_hf_headers

from appliance import __version__
from appliance.store.other_hubs import modelscope


def headers() -> dict[str, str]:
    """With the token, if there is one; it is for Hugging Face's kind of hub only."""
    token = False if modelscope.ENDPOINT else None
    return build_hf_headers(token=token, library_name="appliance", library_version=__version__)


def endpoint() -> str:
    return modelscope.ENDPOINT or constants.ENDPOINT


def variable() -> str:
    """That says where the hub is."""
    return "MODELSCOPE_ENDPOINT" if modelscope.ENDPOINT else "HF_ENDPOINT"

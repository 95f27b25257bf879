"""What a hub has otherwise than the catalog of hub models says.

Downloads lists of files only, and changes nothing.
"""

from __future__ import annotations

from collections.abc import Iterator

from appliance.store.hub.client import list_repository
from appliance.store.hub_contents import find_gguf_files
from appliance.store.hub_id import matching
from appliance.store.known.hub_models import HubModel

# Sizes are rounded to a tenth of a GiB, or to a hundredth below one.
_TOLERANCE = 0.06


def disagreements(model: HubModel) -> Iterator[str]:
    """In a sentence each, what the hub has otherwise than the catalog.

    Raises what `list_repository` raises.
    """
    repository = list_repository(model.repository, model.revision)
    ggufs = {gguf.name: gguf.num_bytes for gguf in find_gguf_files(repository).models}
    for quantization, num_bytes in model.sizes.items():
        found = matching(quantization, dict.fromkeys(ggufs))
        if not found:
            yield f"{model.repository} has no {quantization}."
        elif not any(abs(ggufs[name] / num_bytes - 1) <= _TOLERANCE for name in found):
            sizes = ", ".join(f"{ggufs[name] / 2**30:.2f}" for name in found)
            yield f"{quantization} takes {sizes} GiB, not {num_bytes / 2**30:.2f} GiB."

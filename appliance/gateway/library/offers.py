"""What is told of models that could be fetched: those of the catalog, and one in a hub's
repository.

Knows no hub and no rule of what fits.
"""

from __future__ import annotations

import msgspec


class CatalogOffer(msgspec.Struct, kw_only=True):
    """A model of the catalog as this machine could serve it, estimated. Sizes in bytes."""

    name: str
    repository: str
    kind: str
    licence: str
    languages: tuple[str, ...]
    parameters: int
    active_parameters: int
    ctx: int | None  # tokens that it was trained for; null: not known
    note: str
    draft: str | None  # the model that can draft for it
    sizes: dict[str, int]  # of its files, by quantization
    fits: bool
    quantization: str  # the best that fits, else the smallest there is
    need_bytes: int  # of all processes
    tokens_per_s: float | None  # at most, of one answer; null: bandwidth is not known
    is_here: bool


class Catalog(msgspec.Struct, kw_only=True):
    """`usable_bytes`: what can be used of the memory now, beside what is loaded."""

    usable_bytes: int
    may_pull: bool  # whether this server's models may be changed
    models: tuple[CatalogOffer, ...]


class PullPlan(msgspec.Struct, kw_only=True):
    """What fetching a model would bring, planned from its headers. Sizes in bytes."""

    model: str  # as it was asked for
    repository: str
    is_here: bool  # it need not be fetched; then nothing else is told
    fits: bool = False
    reason: str = ""  # why this is chosen, or nothing
    choice: str | None = None  # in words; null where nothing fits
    quantization: str | None = None
    download_bytes: int | None = None  # at most: less where a part is here
    need_bytes: int | None = None  # of all processes, in RAM
    sizes: dict[str, int] = {}  # of each quantization that there is

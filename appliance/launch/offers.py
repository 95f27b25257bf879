"""Which models of the catalog fit a machine, and how fast they would be: an estimate.

Asks no hub and reads no model: what `fit` plans from a model's own header is exact.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from appliance.fit.machine.device import Device
from appliance.gateway.library.offers import CatalogOffer
from appliance.store.catalog import load_catalog
from appliance.store.hub_id import HubId
from appliance.store.known.hub_models import CHAT, HubModel, load_hub_models
from appliance.store.models import ModelStore

# The cache of 4,096 tokens at q8_0 and the buffers of a step: an eighth of the weights, but
# not under what the plan has for the widest caches of small models (36 layers, 10 heads).
_CACHE_SHARE = 8
_LEAST_CACHE_BYTES = 400 << 20
_PROCESSES_BYTES = 192 << 20  # the server, and the worker without its model
# Slower than people read, a larger model is no better one.
_READING_TOKENS_PER_S = 5.0


@dataclass(frozen=True, kw_only=True)
class Offer:
    """A model of the catalog as this machine could serve it."""

    model: HubModel
    quantization: str  # the best that fits, else the smallest there is
    need_bytes: int  # of all processes, with a context of 4,096 tokens
    fits: bool
    tokens_per_s: float | None  # at most, of one answer; None: bandwidth is not known
    is_here: bool

    @property
    def file_bytes(self) -> int:
        return self.model.sizes[self.quantization]


def need_bytes(file_bytes: int) -> int:
    """What serving a file takes, by a rule of size alone."""
    cache_bytes = max(file_bytes // _CACHE_SHARE, _LEAST_CACHE_BYTES)
    return file_bytes + cache_bytes + _PROCESSES_BYTES


def offers(
    models: Iterable[HubModel],
    usable_bytes: int,
    bytes_per_s: float | None,
    is_here: Callable[[HubModel], bool],
) -> tuple[Offer, ...]:
    """One for each model, in their order. `bytes_per_s` is the bandwidth of memory."""
    return tuple(_offer(model, usable_bytes, bytes_per_s, is_here(model)) for model in models)


def catalog_offers(device: Device, usable_bytes: int, models_dir: Path) -> tuple[Offer, ...]:
    """Every model of the catalog, as `device` could serve it in so much memory."""
    store = ModelStore(models_dir, load_catalog())
    bandwidth = device.bandwidth
    return offers(
        load_hub_models(),
        usable_bytes,
        None if bandwidth is None else bandwidth.copy_bytes_per_s,
        lambda model: not store.resolve_hub(HubId(model.repository)).must_be_pulled,
    )


def described(offer: Offer) -> CatalogOffer:
    model = offer.model
    return CatalogOffer(
        name=model.name,
        repository=model.repository,
        kind=model.kind,
        licence=model.licence,
        languages=tuple(model.languages),
        parameters=model.parameters,
        active_parameters=model.active_parameters,
        ctx=model.ctx,
        note=model.note,
        draft=load_catalog().draft_of(model.repository) if model.generates else None,
        sizes=dict(model.sizes),
        fits=offer.fits,
        quantization=offer.quantization,
        need_bytes=offer.need_bytes,
        tokens_per_s=offer.tokens_per_s,
        is_here=offer.is_here,
    )


def best_chat_model(candidates: Sequence[Offer]) -> Offer | None:
    """The largest chat model that fits and answers as fast as people read; where none is
    so fast, the fastest. One that is here already goes before those that would be
    downloaded. None where none fits.
    """
    fitting = [offer for offer in candidates if offer.fits and offer.model.kind == CHAT]
    quick = [
        offer
        for offer in fitting
        if offer.tokens_per_s is None or offer.tokens_per_s >= _READING_TOKENS_PER_S
    ]
    here = [offer for offer in quick if offer.is_here]
    if quick:
        return max(here or quick, key=lambda offer: offer.model.parameters)
    return max(fitting, key=lambda offer: offer.tokens_per_s or 0.0, default=None)


def _offer(model: HubModel, usable_bytes: int, bytes_per_s: float | None, is_here: bool) -> Offer:
    needs = {quantization: need_bytes(size) for quantization, size in model.sizes.items()}
    fitting = [quantization for quantization, need in needs.items() if need <= usable_bytes]
    quantization = fitting[-1] if fitting else next(iter(needs))
    return Offer(
        model=model,
        quantization=quantization,
        need_bytes=needs[quantization],
        fits=bool(fitting),
        tokens_per_s=None
        if bytes_per_s is None or not model.generates
        else bytes_per_s / model.bytes_per_token(quantization),
        is_here=is_here,
    )

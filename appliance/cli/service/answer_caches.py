"""Opens the caches of answers, as the settings say. Knows no request."""

from __future__ import annotations

from appliance.gateway.answer_cache.caches import Caches, open_caches
from appliance.gateway.answer_cache.entries import CacheRules
from appliance.settings import ServeSettings
from appliance.settings.options import Lifetime


def answer_caches(settings: ServeSettings) -> Caches:
    """Raises `BadDatabase`."""
    return open_caches(
        settings.state_dir,
        responses=_rules(settings.response_cache, settings.response_cache_bytes),
        embeddings=_rules(settings.embedding_cache, settings.embedding_cache_bytes),
        are_shared=settings.share_caches,
    )


def _rules(lifetime: Lifetime, max_bytes: int) -> CacheRules | None:
    if not lifetime.seconds:
        return None
    return CacheRules(lifetime_s=lifetime.seconds, max_bytes=max_bytes)

"""The seam to whoever knows models as files.

Knows no file, no hub and no wire format.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator
from typing import NoReturn, Protocol

from appliance.errors import NotAllowed
from appliance.gateway.library.changes import Progress, Recipe
from appliance.gateway.library.facts import ModelFacts
from appliance.gateway.library.offers import Catalog, PullPlan
from appliance.gateway.router import ServedModel


class Library(Protocol):
    """Implemented by `appliance.launch`.

    What changes it raises `NotAllowed` where it may not be changed.
    """

    async def facts(self, model_id: str) -> ModelFacts:
        """Loads nothing. What cannot be read is left empty."""

    async def catalog(self) -> Catalog:
        """Which known models fit the memory that is free now. Asks no hub."""

    async def plan_pull(self, name: str) -> PullPlan:
        """What `pull` would fetch, and why: the hub is asked for sizes and headers.

        Raises what `pull` raises, but where nothing fits.
        """

    def pull(self, name: str) -> AsyncGenerator[Progress, None]:
        """Fetches a model from a hub, and serves it; closing it early ends that, and
        keeps what has arrived.

        Raises `ModelNotFound`, and what fetching raises.
        """

    def create(self, recipe: Recipe) -> AsyncGenerator[Progress, None]:
        """Makes a model and serves it, in the place of one of the same name.

        Raises `BadRequest`, `ModelNotFound`, and what fetching and converting raise.
        """

    async def copy(self, source: ServedModel, name: str) -> None:
        """Serves `source` under another name too, which stays when it is deleted.

        Raises `BadRequest` for a name that cannot be one, or is taken.
        """

    async def delete(self, model: ServedModel) -> None:
        """Once nobody uses it. Files outside of the directory of models stay."""

    async def has_blob(self, digest: str) -> bool:
        """Whether the file of this digest (`sha256:...`) was sent."""

    async def keep_blob(self, digest: str, parts: AsyncIterator[bytes]) -> None:
        """Keeps a file for `create`. Raises `BadRequest` where it has another digest."""


class NoLibrary:
    """For a server that knows nothing of its models but what they answer, and for callers
    who may change none; `reason`: why.
    """

    def __init__(
        self, reason: str = "The models of this server do not change while it serves."
    ) -> None:
        self._reason = reason

    async def facts(self, model_id: str) -> ModelFacts:  # noqa: ARG002  # the Protocol's
        return ModelFacts()

    async def catalog(self) -> Catalog:
        self._refuse()

    async def plan_pull(self, name: str) -> PullPlan:  # noqa: ARG002  # likewise
        self._refuse()

    def pull(self, name: str) -> AsyncGenerator[Progress, None]:  # noqa: ARG002  # likewise
        self._refuse()

    def create(self, recipe: Recipe) -> AsyncGenerator[Progress, None]:  # noqa: ARG002  # likewise
        self._refuse()

    async def copy(self, source: ServedModel, name: str) -> None:  # noqa: ARG002  # likewise
        self._refuse()

    async def delete(self, model: ServedModel) -> None:  # noqa: ARG002  # likewise
        self._refuse()

    async def has_blob(self, digest: str) -> bool:  # noqa: ARG002  # likewise
        return False

    async def keep_blob(self, digest: str, parts: AsyncIterator[bytes]) -> None:  # noqa: ARG002  # likewise
        self._refuse()

    def _refuse(self) -> NoReturn:
        raise NotAllowed(self._reason)

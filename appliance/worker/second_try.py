"""A request whose worker died before it had said anything is tried once more, unseen by
whoever asked.

Knows no process and no mailbox.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing

from appliance.errors import ModelNotReady, ShuttingDown, WorkerLost
from appliance.protocol.events import Message, Started

_log = logging.getLogger(__name__)
Attempt = Callable[[], AsyncGenerator[Message, None]]


async def tried_again_once(attempt: Attempt) -> AsyncGenerator[Message, None]:
    """The events of `attempt()`. Where the worker is lost before any but `Started`, those
    of another attempt follow, less its `Started`, which says the same.

    Raises what an attempt raises, `WorkerLost` of the second one too; where there is no
    worker for it, the first one's.
    """
    is_started = has_said_something = False
    lost: WorkerLost | None = None
    while True:
        try:
            async with aclosing(attempt()) as events:
                async for event in events:
                    is_repeated = is_started and isinstance(event, Started)
                    is_started = is_started or isinstance(event, Started)
                    has_said_something = has_said_something or not isinstance(event, Started)
                    if not is_repeated:
                        yield event
            return
        except WorkerLost as error:
            if has_said_something or lost is not None:
                raise
            lost = error
            _log.warning("a request that had no answer yet is given to the next worker")
        except (ModelNotReady, ShuttingDown):
            if lost is None:
                raise
            raise lost from None

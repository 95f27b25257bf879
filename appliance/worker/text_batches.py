"""Texts of several requests, put together for one computation after the other. Knows no model and no text."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Item:
    """One text of a request, as token ids."""

    request_id: int
    index: int
    tokens: list[int]


@dataclass
class Encoded:
    """A request whose texts are all encoded: their vectors in order, and how many tokens they were."""

    request_id: int
    num_tokens: int
    vectors: list[bytes]


@dataclass
class _Open:
    num_tokens: int
    num_left: int
    vectors: dict[int, bytes] = field(default_factory=dict)


class TextBatches:
    """First come, first served: up to `max_texts` of together `max_rows` tokens make a batch."""

    def __init__(self, max_rows: int, max_texts: int) -> None:
        self._max_rows = max_rows
        self._max_texts = max_texts
        self._waiting: deque[Item] = deque()
        self._open: dict[int, _Open] = {}

    @property
    def num_requests(self) -> int:
        return len(self._open)

    @property
    def num_waiting_texts(self) -> int:
        return len(self._waiting)

    def add(self, request_id: int, texts: Sequence[list[int]]) -> None:
        """Each of at least one token, and of at most `max_rows`."""
        assert texts
        assert all(0 < len(tokens) <= self._max_rows for tokens in texts)
        self._open[request_id] = _Open(sum(map(len, texts)), len(texts))
        self._waiting.extend(Item(request_id, index, tokens) for index, tokens in enumerate(texts))

    def drop(self, request_id: int) -> None:
        """Nobody waits for it any more; unknown ids are ignored."""
        if self._open.pop(request_id, None) is not None:
            self._waiting = deque(item for item in self._waiting if item.request_id != request_id)

    def next_batch(self) -> list[Item]:
        """The texts that wait longest, as many as fit together; they wait no more."""
        batch: list[Item] = []
        num_rows = 0
        while self._waiting and len(batch) < self._max_texts:
            num_rows += len(self._waiting[0].tokens)
            if num_rows > self._max_rows:
                break
            batch.append(self._waiting.popleft())
        return batch

    def take_in(self, batch: Sequence[Item], vectors: Sequence[bytes]) -> list[Encoded]:
        """The requests that are complete with these vectors, one for each text of the batch."""
        complete = []
        for item, vector in zip(batch, vectors, strict=True):
            request = self._open.get(item.request_id)
            if request is None:  # dropped meanwhile
                continue
            request.vectors[item.index] = vector
            request.num_left -= 1
            if request.num_left == 0:
                del self._open[item.request_id]
                ordered = [request.vectors[index] for index in range(len(request.vectors))]
                complete.append(Encoded(item.request_id, request.num_tokens, ordered))
        return complete

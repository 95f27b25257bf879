"""Token bytes to text, never half a character.

Knows no vocabulary: it is handed bytes.
"""

from __future__ import annotations

import codecs


class Detokenizer:
    """Decodes a stream of token pieces as UTF-8; bytes that can never become a
    character turn into U+FFFD.
    """

    def __init__(self) -> None:
        self._decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")

    def feed(self, piece: bytes) -> str:
        """The characters that `piece` completes;
        empty while one is still unfinished.
        """
        return self._decoder.decode(piece)

    def flush(self) -> str:
        """What an unfinished character leaves behind at the end."""
        return self._decoder.decode(b"", final=True)

"""The prompt by which a language model ranks a document for a query (Qwen3-Reranker).

Knows no engine and no llama.cpp. The prompt is the file's own, with `{query}` and
`{document}` in it, as llama.cpp's server reads it.
"""

from __future__ import annotations

import re
from typing import Protocol

RANK_TEMPLATE_KEY = "tokenizer.chat_template.rerank"
_PLACEHOLDERS = re.compile(r"\{(query|document)\}")


class RankVocabulary(Protocol):
    """What of a loaded model the prompt needs; implemented by
    `appliance.llama.model.Model`.
    """

    def tokenize(self, text: str, *, parse_special: bool) -> list[int]: ...

    def special_pieces(self, text: str) -> list[int | str] | None: ...

    def read_piece(self, token: int) -> bytes: ...


class RankPrompt:
    """Turns pairs into token ids.

    Special tokens of the prompt are tokens, those that a query or document happens to
    contain are plain text. Otherwise the whole is tokenized as one text: where the
    prompt ends in a space, that space belongs to the query's first word.
    """

    def __init__(self, vocabulary: RankVocabulary, template: str) -> None:
        self._vocabulary = vocabulary
        self._pieces = vocabulary.special_pieces(template)
        self._parts = _PLACEHOLDERS.split(template)  # texts, and between them names

    def tokens(self, query: str, document: str, max_document_tokens: int | None) -> list[int]:
        values = {"query": query, "document": self._cut(document, max_document_tokens)}
        if self._pieces is None:
            return self._tokens_part_by_part(values)
        tokens: list[int] = []
        for piece in self._pieces:
            if isinstance(piece, int):
                tokens.append(piece)
            else:
                text = _PLACEHOLDERS.sub(lambda match: values[match[1]], piece)
                tokens += self._vocabulary.tokenize(text, parse_special=False)
        return tokens

    def _tokens_part_by_part(self, values: dict[str, str]) -> list[int]:
        tokens: list[int] = []
        for index, part in enumerate(self._parts):
            is_name = index % 2 == 1
            text = values[part] if is_name else part
            tokens += self._vocabulary.tokenize(text, parse_special=not is_name)
        return tokens

    def _cut(self, document: str, max_tokens: int | None) -> str:
        if max_tokens is None:
            return document
        tokens = self._vocabulary.tokenize(document, parse_special=False)
        if len(tokens) <= max_tokens:
            return document
        text = b"".join(map(self._vocabulary.read_piece, tokens[:max_tokens]))
        return text.decode("utf-8", errors="ignore")

"""A model's vocabulary as grammars see it, made when the first grammar comes.

Knows no request.
"""

from __future__ import annotations

import contextlib
import functools
import threading
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Protocol

from appliance.errors import BadRequest
from appliance.protocol.requests import Grammar
from appliance.text.answer_format import AnswerFormat, Opening
from appliance.text.calls.syntax import Tool
from appliance.worker.child.tokenizing.forced_text import ForcedText
from appliance.worker.child.tokenizing.prompts import PromptVocabulary

if TYPE_CHECKING:
    from appliance.text.grammar import GrammarConstraint, Grammars


# Of a thread that compiles: recursive descent over what somebody sent. 15,000 rules
# that each name the next take 120 MiB; only what is used is ever resident.
STACK_BYTES = 512 << 20


class GrammarVocabulary(PromptVocabulary, Protocol):
    """What of a loaded model grammars need; implemented by
    `appliance.llama.model.Model`.
    """

    @property
    def end_tokens(self) -> frozenset[int]: ...

    def read_piece(self, token: int) -> bytes: ...


class LazyGrammars:
    """Compiles grammars for a model; called on several threads."""

    def __init__(self, vocabulary: GrammarVocabulary) -> None:
        self._vocabulary = vocabulary
        self._lock = threading.Lock()
        self._grammars: Grammars | None = None

    def compile(self, grammar: Grammar) -> GrammarConstraint:
        """Raises `BadRequest`, which names the request's field."""
        with _naming(grammar.param):
            return self._ready().compile(grammar.kind, grammar.source, is_strict=grammar.is_strict)

    def compile_answer(
        self,
        form: AnswerFormat,
        opening: Opening,
        grammar: Grammar | None,
        tools: Sequence[Tool],
        *,
        several: bool,
        is_free: bool,
    ) -> GrammarConstraint:
        """See `appliance.text.grammar.AnswerGrammar`.

        Raises `BadRequest`, which names the request's field.
        """
        from appliance.text.grammar import AnswerGrammar

        text = None if grammar is None else (grammar.kind, grammar.source)
        with _naming("tools" if grammar is None else grammar.param):
            wanted = AnswerGrammar(
                form=form,
                opening=opening,
                text=text,
                tools=tools,
                several=several,
                is_free=is_free,
                is_strict=grammar is not None and grammar.is_strict,
            )
            return self._ready().compile_answer(wanted)

    def _ready(self) -> Grammars:
        with self._lock:
            if self._grammars is None:
                self._grammars = _grammars(self._vocabulary)
            return self._grammars


@contextlib.contextmanager
def _naming(param: str) -> Iterator[None]:
    try:
        yield
    except BadRequest as error:
        error.param = param
        raise


def _grammars(vocabulary: GrammarVocabulary) -> Grammars:
    # Imported here, because most workers never need it: 4 MiB.
    from appliance.text.grammar import Grammars, TokenTexts

    pieces = [vocabulary.read_piece(token) for token in range(vocabulary.num_vocab)]
    texts = list(pieces)
    special = [token for token, text in enumerate(texts) if not text]
    for token in special:
        texts[token] = vocabulary.text_of(token).encode("utf-8")
    end_tokens = sorted(vocabulary.end_tokens)
    if not end_tokens:
        raise BadRequest(
            "This model's vocabulary has no token that ends an answer, so its output cannot be "
            "constrained to a grammar or a schema."
        )

    forced = ForcedText(functools.partial(vocabulary.tokenize, parse_special=False), pieces)
    return Grammars(
        TokenTexts(
            texts=texts,
            special=special,
            end_tokens=end_tokens,
            bos=vocabulary.bos,
            tokenize=forced.tokens,
        )
    )

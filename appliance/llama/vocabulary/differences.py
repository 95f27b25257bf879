"""Whether two models mean the same by their tokens,
so that one may draft for the other.

Computes nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import repeat

import llama_cpp

from appliance.llama.model import Model

# What decides how a token is read and written; the others (normalized, single word)
# concern text before it.
_MEANING = (
    llama_cpp.LLAMA_TOKEN_ATTR_CONTROL
    | llama_cpp.LLAMA_TOKEN_ATTR_USER_DEFINED
    | llama_cpp.LLAMA_TOKEN_ATTR_BYTE
    | llama_cpp.LLAMA_TOKEN_ATTR_UNKNOWN
)
_NEVER_WRITTEN = llama_cpp.LLAMA_TOKEN_ATTR_UNUSED | llama_cpp.LLAMA_TOKEN_ATTR_UNKNOWN
_SPECIAL_IDS: dict[str, Callable[[object], int]] = {
    "BOS": llama_cpp.llama_vocab_bos,
    "EOS": llama_cpp.llama_vocab_eos,
    "EOT": llama_cpp.llama_vocab_eot,
}
_NONE = -1  # llama.h, LLAMA_TOKEN_NULL


def first_difference(target: Model, draft: Model) -> str | None:
    """In words, the first thing in which the vocabularies differ; None where one model
    can draft for the other.

    Compared are which tokens begin and end a text, and the texts and kinds of all
    tokens. One vocabulary may be longer by tokens that are never written: checkpoints
    of one family are padded to different sizes. Not compared are the padding token,
    which no answer has, and whether a text gets a BOS: the draft is given the target's
    token ids.
    """
    return next(_differences(target, draft), None)


def _differences(target: Model, draft: Model) -> Iterator[str]:
    of_target, of_draft = _Vocabulary(target), _Vocabulary(draft)
    for name, id_of in _SPECIAL_IDS.items():
        one, other = id_of(of_target.handle), id_of(of_draft.handle)
        if one != other:
            yield (
                f"the {name} token of the target is {of_target.words(one)}, of the draft "
                f"{of_draft.words(other)}"
            )
    if target.end_tokens != draft.end_tokens:
        token = min(target.end_tokens ^ draft.end_tokens)
        whose = of_target if token in target.end_tokens else of_draft
        name = "target" if whose is of_target else "draft"
        yield f"token {whose.words(token)} ends an answer of the {name} only"
    num_common = min(target.num_vocab, draft.num_vocab)
    yield from _token_differences(of_target, of_draft, num_common)
    longer, name = (
        (of_target, "target") if target.num_vocab > draft.num_vocab else (of_draft, "draft")
    )
    for token in range(num_common, longer.num_tokens):
        if not longer.attributes(token) & _NEVER_WRITTEN:
            yield f"token {longer.words(token)} is known to the {name} only"


def _token_differences(target: _Vocabulary, draft: _Vocabulary, num_tokens: int) -> Iterator[str]:
    entries = zip(target.entries(num_tokens), draft.entries(num_tokens), strict=True)
    for token, ((text, kind), (other_text, other_kind)) in enumerate(entries):
        if text != other_text or (kind ^ other_kind) & _MEANING:
            yield f"the target's token {target.words(token)} is {draft.words(token)} in the draft"


class _Vocabulary:
    """A `llama_vocab`, read in bulk:
    of 150,000 tokens, each call of our own would be felt.
    """

    def __init__(self, model: Model) -> None:
        self.handle = llama_cpp.llama_model_get_vocab(model.handle)
        self.num_tokens = model.num_vocab

    def entries(self, num_tokens: int) -> Iterator[tuple[bytes, int]]:
        """Text and attributes of the first tokens."""
        handles, tokens = repeat(self.handle), range(num_tokens)
        texts = map(llama_cpp.llama_vocab_get_text, handles, tokens)
        return zip(texts, map(llama_cpp.llama_vocab_get_attr, handles, tokens), strict=True)

    def attributes(self, token: int) -> int:
        attributes: int = llama_cpp.llama_vocab_get_attr(self.handle, token)
        return attributes

    def words(self, token: int) -> str:
        """A token for people: its id, its text as the file has it, and whether that is
        a special one.
        """
        if token == _NONE:
            return "none"
        text = llama_cpp.llama_vocab_get_text(self.handle, token).decode("utf-8", errors="replace")
        kind = (
            ", a special token"
            if self.attributes(token) & llama_cpp.LLAMA_TOKEN_ATTR_CONTROL
            else ""
        )
        return f"{token} ({text!r}{kind})"

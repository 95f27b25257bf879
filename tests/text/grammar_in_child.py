"""Compiles the grammar that it is given and says what answers it allows, or the refusal:
in a process of its own, for native code may end it.
"""

from __future__ import annotations

import json
import sys

from appliance.errors import BadRequest
from appliance.protocol.grammar_kind import GrammarKind
from appliance.text.grammar import Grammars, TokenTexts

END = 256
MAX_TOKENS = 500


def main(kind: GrammarKind, source: str) -> dict[str, str]:
    texts = [*(bytes([value]) for value in range(256)), b"<|end|>"]
    grammars = Grammars(
        TokenTexts(texts=texts, special=[END], end_tokens=[END], bos=None, tokenize=list)
    )
    try:
        constraint = grammars.compile(kind, source)
    except BadRequest as error:
        return {"refused": error.message}
    answer = b""
    for _ in range(MAX_TOKENS):
        bits = int.from_bytes(constraint.mask(), "little")
        token = END if bits >> END & 1 else next(at for at in range(END) if bits >> at & 1)
        constraint.accept(token)
        if token == END:
            break
        answer += texts[token]
    return {"answer": answer.decode()}


if __name__ == "__main__":
    cases = json.load(sys.stdin)
    for kind, source in cases:
        print(json.dumps(main(GrammarKind(kind), source)), flush=True)

"""Encodes texts with tokenizers that Hugging Face's `tokenizers` has no model of, as their own
software does.

Knows no files and no llama.cpp: this is what it is compared with. Slow, and meant for a few
sentences.

A tokenizer is described as tokenizer.json does, with another `type` of its model.
"""

from __future__ import annotations

import math
import re
import unicodedata
from collections.abc import Callable, Mapping
from typing import Any

from tokenizers import Regex, pre_tokenizers

from convert.tokenizer.byte_alphabet import as_bytes
from convert.tokenizer.tiktoken.ranks import split_by_rank

RANKS = "Ranks"  # tiktoken's: {"vocab": {text of bytes: rank}}
LONGEST_MATCH = "LongestMatch"  # RWKV's: {"vocab": {bytes in hexadecimal: id}}
BEST_SCORES = "BestScores"  # PLaMo 2's: {"vocab": [[text, score, whether it is a byte], ...]}
_BYTES_SCORE = -10_000_000  # of a character that no token begins with; in ten-thousandths
_NO_SCORE = -20_000_000  # and of a token that is never found

Encode = Callable[[str], list[int]]


def encoder_of(tokenizer: Mapping[str, Any]) -> Encode | None:
    """Gives the ids of a text, without any around it; None where `tokenizers` has this kind
    of model.

    Added tokens are found in the text before anything else, longer ones first.
    """
    make = _ENCODERS.get((tokenizer.get("model") or {}).get("type", ""))
    if make is None:
        return None
    encode = make(tokenizer)
    ids = {entry["content"]: int(entry["id"]) for entry in tokenizer.get("added_tokens") or []}
    longest_first = sorted(ids, key=len, reverse=True)
    added = re.compile("(" + "|".join(map(re.escape, longest_first)) + ")") if ids else None
    composes = (tokenizer.get("normalizer") or {}).get("type") == "NFC"

    def encode_text(text: str) -> list[int]:
        whole = unicodedata.normalize("NFC", text) if composes else text
        parts = added.split(whole) if added is not None else [whole]
        found: list[int] = []
        for at, part in enumerate(parts):
            found += [ids[part]] if at % 2 else encode(part)
        return found

    return encode_text


def _by_ranks(tokenizer: Mapping[str, Any]) -> Encode:
    """As tiktoken: words by an expression; a word that has a rank is one token, others are
    joined from their bytes (`CoreBPE::encode_ordinary` in its src/lib.rs).
    """
    split = tokenizer["pre_tokenizer"]["pretokenizers"][0]
    words = pre_tokenizers.Split(Regex(split["pattern"]["Regex"]), behavior="isolated")
    ranks = {as_bytes(text): rank for text, rank in tokenizer["model"]["vocab"].items()}

    def encode(text: str) -> list[int]:
        found: list[int] = []
        for word, _ in words.pre_tokenize_str(text):
            piece = word.encode()
            parts = [piece] if piece in ranks else split_by_rank(ranks, piece)
            found += [ranks[part] for part in parts]
        return found

    return encode


def _by_longest_match(tokenizer: Mapping[str, Any]) -> Encode:
    """As RWKV's `TRIE_TOKENIZER`."""
    ids = {bytes.fromhex(piece): i for piece, i in tokenizer["model"]["vocab"].items()}
    longest = max(map(len, ids))

    def encode(text: str) -> list[int]:
        found: list[int] = []
        rest = text.encode()
        while rest:
            size = next(n for n in range(longest, 0, -1) if rest[:n] in ids and n <= len(rest))
            found.append(ids[rest[:size]])
            rest = rest[size:]
        return found

    return encode


def _by_best_scores(tokenizer: Mapping[str, Any]) -> Encode:
    """As PLaMo 2's `AhoCorasick`: from the end to the beginning, the longer token where two ways
    score alike.
    """
    vocab = tokenizer["model"]["vocab"]
    scores = {
        text: (token_id, round(score * 1e4) if math.isfinite(score) else _NO_SCORE)
        for token_id, (text, score, is_byte) in enumerate(vocab)
        if not is_byte
    }
    of_bytes = {text: token_id for token_id, (text, _, is_byte) in enumerate(vocab) if is_byte}
    longest = max(map(len, scores))

    def bytes_of(char: str) -> list[int]:
        return [of_bytes[f"<0x{byte:02X}>"] for byte in char.encode()]

    def encode(text: str) -> list[int]:
        best: list[tuple[int, list[int]]] = [(0, [])]  # of the text from each place on
        for at in range(len(text) - 1, -1, -1):
            ways: list[tuple[int, list[int]]] = []
            for size in range(min(longest, len(text) - at), 0, -1):
                token_id, score = scores.get(text[at : at + size], (0, _NO_SCORE))
                if score > _NO_SCORE:
                    rest = best[-size]
                    ways.append((rest[0] + score, [token_id, *rest[1]]))
            rest = best[-1]
            ways.append((rest[0] + _BYTES_SCORE, [*bytes_of(text[at]), *rest[1]]))
            best.append(max(ways, key=lambda way: way[0]))
        return best[-1][1]

    return encode


_ENCODERS: Mapping[str, Callable[[Mapping[str, Any]], Encode]] = {
    RANKS: _by_ranks,
    LONGEST_MATCH: _by_longest_match,
    BEST_SCORES: _by_best_scores,
}

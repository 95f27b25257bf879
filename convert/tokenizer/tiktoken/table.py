"""The token table of a checkpoint whose vocabulary is a tiktoken file, or Mistral's
tekken.json, which holds the same.

Knows no special roles and no weights.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gguf import TokenType

from convert.config import Config, read_json
from convert.errors import DamagedCheckpoint, UnsupportedModel
from convert.tokenizer.byte_alphabet import as_text
from convert.tokenizer.deviation import Deviation
from convert.tokenizer.own_encoders import RANKS
from convert.tokenizer.pretokenizer import PreTokenizer, pretokenizers_like
from convert.tokenizer.tiktoken.classes import CLASS_OF_MODEL, CLASSES, RanksClass
from convert.tokenizer.tiktoken.ranks import (
    find_merges,
    is_ranks_file,
    read_ranks,
    require_usable,
)
from convert.tokenizer.token_table import Token, TokenTable

_TEKKEN = "tekken.json"
_UNLISTED_VERSIONS = ("v1", "v2", "v3", "v7")
# `DEPRECATED_SPECIAL_TOKENS` of mistral_common's tekken.py
_UNLISTED = (
    "<unk>", "<s>", "</s>", "[INST]", "[/INST]", "[AVAILABLE_TOOLS]", "[/AVAILABLE_TOOLS]",
    "[TOOL_RESULTS]", "[/TOOL_RESULTS]", "[TOOL_CALLS]", "[IMG]", "<pad>", "[IMG_BREAK]",
    "[IMG_END]", "[PREFIX]", "[MIDDLE]", "[SUFFIX]", "[SYSTEM_PROMPT]", "[/SYSTEM_PROMPT]",
    "[TOOL_CONTENT]",
)  # fmt: skip
_SHOWN_PIECES = 3  # of a list of them


def ranks_file(directory: Path) -> Path | None:
    """The file that holds ranks, if there is one."""
    paths = [*sorted(directory.glob("*.tiktoken")), directory / "tiktoken.model"]
    found = [path for path in paths if path.exists()]
    other = directory / "tokenizer.model"  # mostly of SentencePiece
    if not found and is_ranks_file(other):
        return other
    if not found and (directory / _TEKKEN).exists():
        return directory / _TEKKEN
    return found[0] if found else None


def ranks_table(path: Path, tokenizer_config: Mapping[str, Any], config: Config) -> TokenTable:
    """Of the file that `ranks_file` found.

    Raises `UnsupportedModel` where the class that reads the file is not known here, or
    llama.cpp has nothing that splits text as it does; `DamagedCheckpoint` for a malformed
    file.
    """
    if path.name == _TEKKEN:
        return _table(path, _read_tekken(path))
    kind = _class_of(path, tokenizer_config, config)
    ranks = read_ranks(path)
    return _table(path, _Vocabulary(ranks, kind, _special_tokens(kind, ranks, tokenizer_config)))


@dataclass(frozen=True)
class _Vocabulary:
    ranks: Mapping[bytes, int]
    kind: RanksClass
    special: Mapping[int, str]


def _class_of(path: Path, tokenizer_config: Mapping[str, Any], config: Config) -> RanksClass:
    name = tokenizer_config.get("tokenizer_class")
    if name not in CLASSES:
        # what remote code is asked for: ["tokenization_qwen.QWenTokenizer", null]
        mapped = (tokenizer_config.get("auto_map") or {}).get("AutoTokenizer")
        first = mapped[0] if isinstance(mapped, list) and mapped else mapped
        name = first.rpartition(".")[2] if isinstance(first, str) else name
    if not isinstance(name, str):
        name = CLASS_OF_MODEL.get(str(config.values.get("model_type")), name)
    if isinstance(name, str) and name in CLASSES:
        return CLASSES[name]
    raise UnsupportedModel(
        f"{path} lists pieces of bytes and their ranks (tiktoken), and it is not known here how "
        f"its tokenizer ({name or 'without a tokenizer_class'}) splits text into words, nor which "
        f"special tokens it has. Known are {', '.join(sorted(CLASSES))}. Convert a repository of "
        "this model that has a tokenizer.json."
    )


def _special_tokens(
    kind: RanksClass, ranks: Mapping[bytes, int], tokenizer_config: Mapping[str, Any]
) -> dict[int, str]:
    """By id, those that tokenizer_config.json lists in place of the class's own."""
    special = kind.special(len(ranks))
    try:
        for key, entry in (tokenizer_config.get("added_tokens_decoder") or {}).items():
            special[int(key)] = entry["content"]
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise DamagedCheckpoint(
            f"tokenizer_config.json has a malformed added_tokens_decoder: {error!r}"
        ) from error
    ids = set(ranks.values())
    taken = next((token_id for token_id in special if token_id in ids), None)
    if taken is not None:
        raise DamagedCheckpoint(
            f"The special token {special[taken]!r} has the id {taken}, which is the rank of "
            "another one: the list of ranks and the tokenizer's class do not belong together."
        )
    return special


def _read_tekken(path: Path) -> _Vocabulary:
    """Format: `Tekkenizer` of mistral_common: ids begin with the special tokens, and ranks
    follow; pieces behind the size of the vocabulary are not used.
    """
    content = read_json(path)
    try:
        config = content["config"]
        num_special = int(config["default_num_special_tokens"])
        num_ranks = int(config["default_vocab_size"]) - num_special
        ranks = {
            base64.b64decode(entry["token_bytes"], validate=True): entry["rank"] + num_special
            for entry in content["vocab"][:num_ranks]
        }
        named = _named_in_tekken(path, content)
        expression = str(config["pattern"])
    except (KeyError, TypeError, ValueError, AttributeError, binascii.Error) as error:
        raise DamagedCheckpoint(f"{path} is malformed: {error!r}") from error
    require_usable(ranks, path)
    special = {at: named.get(at, f"<SPECIAL_{at}>") for at in range(num_special)}
    defaults = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>", "pad_token": "<pad>"}
    kind = RanksClass(
        expression=expression,
        special=lambda _: special,
        defaults={**defaults, "add_bos_token": True, "add_eos_token": False},
    )
    return _Vocabulary(ranks, kind, special)


def _named_in_tekken(path: Path, content: Mapping[str, Any]) -> dict[int, str]:
    """Special tokens by rank; the first versions of the file leave them to the program."""
    listed, version = content.get("special_tokens"), content["config"].get("version")
    if listed is not None:
        return {entry["rank"]: entry["token_str"] for entry in listed}
    if version not in _UNLISTED_VERSIONS:
        raise DamagedCheckpoint(f"{path} of version {version} lists no special_tokens.")
    return dict(enumerate(_UNLISTED))


def _table(path: Path, vocabulary: _Vocabulary) -> TokenTable:
    kind, ranks = vocabulary.kind, vocabulary.ranks
    section = {
        "type": "Sequence",
        "pretokenizers": [
            {
                "type": "Split",
                "pattern": {"Regex": kind.expression},
                "behavior": "Isolated",
                "invert": False,
            },
            {
                "type": "ByteLevel",
                "add_prefix_space": False,
                "trim_offsets": False,
                "use_regex": False,
            },
        ],
    }
    merges = find_merges(ranks)
    pre = _pretokenizer(section, takes_whole_words=bool(merges.whole_words))
    texts = {piece: as_text(piece) for piece in ranks}
    lost = () if pre.ignores_merges else merges.whole_words
    composition = [Deviation.NO_COMPOSITION] if kind.composes else []
    return TokenTable(
        model="gpt2",
        pre=pre.name,
        takes_whole_words=pre.ignores_merges,
        tokens={rank: Token(texts[piece], TokenType.NORMAL) for piece, rank in ranks.items()},
        reference={
            "version": "1.0",
            "added_tokens": [_added(i, text) for i, text in sorted(vocabulary.special.items())],
            "normalizer": {"type": "NFC"} if kind.composes else None,
            "pre_tokenizer": section,
            "post_processor": None,
            "model": {"type": RANKS, "vocab": {texts[piece]: ranks[piece] for piece in ranks}},
        },
        merges=tuple(f"{as_text(left)} {as_text(right)}" for left, right in merges.pairs),
        deviations=frozenset({*pre.deviations, *composition}),
        defaults=kind.defaults,
        notes=(*kind.notes, *_notes_on_lost(path, lost)),
    )


def _pretokenizer(section: dict[str, Any], *, takes_whole_words: bool) -> PreTokenizer:
    """A word that is a piece is found as a whole by tiktoken, which shows only where joining
    would not make it.
    """
    alike = pretokenizers_like(section)
    return next((pre for pre in alike if pre.ignores_merges == takes_whole_words), alike[0])


def _notes_on_lost(path: Path, lost: Sequence[bytes]) -> tuple[str, ...]:
    if not lost:
        return ()
    some = ", ".join(repr(piece.decode(errors="replace")) for piece in lost[:_SHOWN_PIECES])
    return (
        f"{len(lost)} tokens of {path.name} ({some}) are whole words that no merges make: "
        "llama.cpp writes them as several tokens.",
    )


def _added(token_id: int, text: str) -> dict[str, Any]:
    flags = dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized"), False)
    return {"id": token_id, "content": text, "special": True, **flags}

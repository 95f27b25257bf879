"""Makes `pieces.tiktoken` and `ranks.json`: what tiktoken itself makes of the sample texts.

    python -m tests.convert.tokenizer.golden.make_ranks

Needs tiktoken (0.14.0 made what is here), which nothing else does.
"""

from __future__ import annotations

import base64
import json
from pathlib import Path

import tiktoken
from tokenizers import Regex, Tokenizer, models, pre_tokenizers, trainers

from convert.tokenizer.byte_alphabet import ALPHABET, as_bytes
from convert.tokenizer.pretokenizer import QWEN2
from convert.tokenizer.sample_texts import SAMPLE_TEXTS
from convert.tokenizer.tiktoken.classes import CLASSES
from tests.convert.tokenizer.golden.ranks_texts import BY_HAND, NUM_RANKS, texts

FOLDER = Path(__file__).parent


def main() -> None:
    ranks = trained_ranks()
    lines = [f"{base64.b64encode(piece).decode()} {rank}\n" for piece, rank in ranks.items()]
    (FOLDER / "pieces.tiktoken").write_text("".join(lines))
    golden = {
        name: [
            encoding(name, ranks).encode(text, allowed_special="all")
            for text in texts(name, SAMPLE_TEXTS)
        ]
        for name in CLASSES
    }
    with_more = ranks | {piece: len(ranks) + at for at, piece in enumerate(BY_HAND)}
    odd = [encoding("ChatGLM4Tokenizer", with_more).encode(text) for text in SAMPLE_TEXTS]
    content = {"texts": SAMPLE_TEXTS, "ids": golden, "by_hand": odd}
    (FOLDER / "ranks.json").write_text(json.dumps(content, ensure_ascii=False, indent=0) + "\n")


def encoding(name: str, ranks: dict[bytes, int]) -> tiktoken.Encoding:
    special = CLASSES[name].special(len(ranks))
    return tiktoken.Encoding(
        name=name,
        pat_str=CLASSES[name].expression,
        mergeable_ranks=ranks,
        special_tokens={text: token_id for token_id, text in special.items()},
    )


def trained_ranks() -> dict[bytes, int]:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(QWEN2), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    trainer = trainers.BpeTrainer(
        vocab_size=NUM_RANKS, initial_alphabet=list(ALPHABET), show_progress=False
    )
    tokenizer.train_from_iterator(list(SAMPLE_TEXTS) * 2, trainer)
    merges = json.loads(tokenizer.to_str())["model"]["merges"]
    pieces = [bytes([byte]) for byte in range(256)]
    pieces += [as_bytes(left + right) for left, right in merges]
    return {piece: rank for rank, piece in enumerate(dict.fromkeys(pieces))}


if __name__ == "__main__":
    main()

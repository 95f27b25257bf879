"""Makes `*.model` and `sentencepiece.json`: what SentencePiece itself makes of the sample texts.

    python -m tests.convert.tokenizer.golden.make_sentencepiece

Needs sentencepiece (0.2.3 made what is here), which nothing else does.
"""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

import sentencepiece

from convert.tokenizer.sample_texts import SAMPLE_TEXTS

FOLDER = Path(__file__).parent
# hexadecimal code points of what is rewritten, and of what becomes of it
RULES = (("9", "20"), ("A", "20"), ("D", "20"), ("A0", "20"), ("3000", "20"), ("FB01", "66 69"),
         ("FF21", "41"), ("2026", "2E 2E 2E"), ("200B", ""), ("2460", "31"))  # fmt: skip
MODELS: dict[str, dict[str, Any]] = {
    # as XLM-RoBERTa's and T5's: spaces taken as one, characters rewritten
    "unigram": {"model_type": "unigram", "rewrites": True},
    # as some Japanese models': every space counts
    "unigram_plain": {
        "model_type": "unigram",
        "remove_extra_whitespaces": False,
        "user_defined_symbols": ["<turn>"],
    },
    "unigram_no_prefix": {
        "model_type": "unigram",
        "remove_extra_whitespaces": False,
        "add_dummy_prefix": False,
    },
    # as Llama 2's, and Gemma's
    "bpe": {"model_type": "bpe", "remove_extra_whitespaces": False, "byte_fallback": True},
    "bpe_no_prefix": {
        "model_type": "bpe",
        "remove_extra_whitespaces": False,
        "byte_fallback": True,
        "add_dummy_prefix": False,
    },
}


def main() -> None:
    golden = {}
    for name, settings in MODELS.items():
        golden[name] = tokenized(train(name, **settings))
    content = {"texts": SAMPLE_TEXTS, "ids": golden}
    path = FOLDER / "sentencepiece.json"
    path.write_text(json.dumps(content, ensure_ascii=False, indent=0) + "\n")


def train(name: str, *, rewrites: bool = False, **settings: Any) -> Path:
    with tempfile.TemporaryDirectory() as folder:
        rules = Path(folder, "rules.tsv")
        rules.write_text("".join(f"{a}\t{b}\n" for a, b in RULES if rewrites))
        texts = Path(folder, "texts.txt")
        texts.write_text("\n".join(text.replace("\n", " ") for text in SAMPLE_TEXTS * 3))
        given = (
            {"normalization_rule_tsv": str(rules)}
            if rewrites
            else {"normalization_rule_name": "identity"}
        )
        sentencepiece.SentencePieceTrainer.train(
            input=str(texts),
            model_prefix=str(FOLDER / name),
            vocab_size=900,
            hard_vocab_limit=False,
            character_coverage=0.98,
            num_threads=1,
            **given,
            **settings,
        )
    (FOLDER / f"{name}.vocab").unlink()
    return FOLDER / f"{name}.model"


def tokenized(path: Path) -> list[list[int]]:
    processor = sentencepiece.SentencePieceProcessor(model_file=str(path))
    return [processor.encode(text) for text in SAMPLE_TEXTS]


if __name__ == "__main__":
    main()

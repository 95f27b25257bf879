"""Splitting at special tokens: llama.cpp's order and strips by hand, and its very
tokens on whole vocabularies.
"""

from __future__ import annotations

import json
import random
import subprocess
import sys
from pathlib import Path

import gguf
import pytest

from appliance.llama.vocabulary.special_tokens import SpecialToken, SpecialTokens
from tests.conftest import Embedded


def special(
    token: int, text: str, *, always: bool = False, left: bool = False, right: bool = False
) -> SpecialToken:
    return SpecialToken(
        token=token, text=text.encode(), always=always, strips_left=left, strips_right=right
    )


@pytest.mark.parametrize(
    ("tokens", "text", "pieces"),
    [
        # the longer one first, not the leftmost
        ([special(1, "ab"), special(2, "bcd")], "abcdab", ["a", 2, 1]),
        ([special(1, "<s>"), special(2, "<s><s>")], "<s><s><s>", [2, 1]),
        ([special(1, "\n\n", always=True), special(2, "\n", always=True)], "\n\n\n.", [1, 2, "."]),
        ([special(1, "<e>", right=True)], "a <e> \n<e>\t b", ["a ", 1, 1, "b"]),
        ([special(1, "<m>", left=True)], "a \n <m> b", ["a", 1, " b"]),
        # stripped before it could match
        ([special(1, "<m>", left=True), special(2, "\n")], "a\n<m>\n", ["a", 1, 2]),
        ([special(1, "<s>")], "", []),
        ([], "plain", ["plain"]),
    ],
)
def test_the_longest_token_is_taken_first_wherever_it_is(
    tokens: list[SpecialToken], text: str, pieces: list[str | int]
) -> None:
    split = SpecialTokens(tokens).split(text.encode(), parse_special=True)
    assert [p if isinstance(p, int) else p.decode() for p in split] == pieces


def test_only_user_defined_tokens_count_where_special_ones_are_to_stay_text() -> None:
    tokens = SpecialTokens([special(1, "<s>"), special(2, "<u>", always=True)])
    assert list(tokens.split(b"<s><u>", parse_special=False)) == [b"<s>", 2]


@pytest.mark.parametrize(
    ("texts", "can_split"),
    [
        (["<a>", "<b>", "<s><s>"], True),
        (["aba", "xyz"], True),  # overlaps itself only
        (["<a>", "a><"], False),
        (["<a>", "<a>"], False),
        (["", "<a>"], False),
    ],
)
def test_tokens_whose_order_llama_cpp_does_not_promise_are_left_to_it(
    texts: list[str], can_split: bool
) -> None:
    assert SpecialTokens(special(n, text) for n, text in enumerate(texts)).can_split is can_split


def test_the_embedded_vocabulary_is_tokenized_exactly_as_llama_cpp_does(embedded: Embedded) -> None:
    assert compare_with_llama_cpp(embedded.files["Q8_0"]) == {"compared": 1000, "different": []}


def test_a_sentencepiece_vocabulary_with_strips_is_tokenized_exactly_as_llama_cpp_does(
    tmp_path: Path,
) -> None:
    path = tmp_path / "spm.gguf"
    write_sentencepiece(path)
    assert compare_with_llama_cpp(path) == {"compared": 1000, "different": []}


def test_a_text_of_forty_thousand_special_tokens_is_no_more_than_their_ids(
    embedded: Embedded,
) -> None:
    """llama.cpp alone needs half a minute for it on two cores."""
    report = run_child("many", embedded.files["Q8_0"])
    assert report == {"num_tokens": 80_000, "num_special": 40_000}


def write_sentencepiece(path: Path) -> None:
    """Bytes, letters and a few pieces; a name with `phi-3` makes llama.cpp strip white
    space after special tokens.
    """
    letters = [*"▁abcdehlnorst<>|/ ", "▁a", "▁the", "he", "th", "▁▁", "nd", "and", "▁and"]
    tokens = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256)), *letters]
    kinds = [gguf.TokenType.UNKNOWN, gguf.TokenType.CONTROL, gguf.TokenType.CONTROL]
    kinds += [gguf.TokenType.BYTE] * 256 + [gguf.TokenType.NORMAL] * len(letters)
    for text, kind in (
        ("<|endoftext|>", gguf.TokenType.CONTROL),
        ("<|user|>", gguf.TokenType.CONTROL),
        ("<|end|>", gguf.TokenType.CONTROL),
        ("<tool>", gguf.TokenType.USER_DEFINED),
        ("\n\n", gguf.TokenType.USER_DEFINED),
    ):
        tokens.append(text)
        kinds.append(kind)
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_name("phi-3 in small")
    writer.add_tokenizer_model("llama")
    writer.add_tokenizer_pre("default")
    writer.add_token_list(tokens)
    writer.add_token_scores([-float(n) for n in range(len(tokens))])
    writer.add_token_types(kinds)
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.close()


def compare_with_llama_cpp(path: Path) -> object:
    return run_child("compare", path)


def run_child(command: str, path: Path) -> object:
    """llama.cpp is loaded in a child only:
    the test run itself must survive native crashes.
    """
    child = subprocess.run(
        [sys.executable, "-m", "tests.llama.test_special_tokens", command, str(path)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert child.returncode == 0, child.stderr[-2000:]
    return json.loads(child.stdout)


def _compare(path: Path) -> dict[str, object]:
    """1,000 texts of special tokens, pieces of them and words, tokenized by us and by
    `llama_tokenize` alone.
    """
    from appliance.llama.model import Model

    model = Model(path, use_extra_bufts=False, vocab_only=True)
    written = [
        model.text_of(token) for token in range(model.num_vocab) if token not in range(3, 259)
    ][-12:]
    written += [model.text_of(token) for token in range(3)]
    words = [
        "and the ",
        " ",
        "  ",
        "\n",
        "\n\n",
        "\t",
        "héllo",
        "世界",
        "<",
        "|>",
        "<|im",
        "r> the",
        "</",
        "▁",
        "end|",
    ]
    rng = random.Random(11)
    different = []
    for _ in range(1000):
        parts = [
            rng.choice(written) if rng.random() < 0.5 else rng.choice(words)
            for _ in range(rng.randrange(14))
        ]
        text = "".join(part[rng.randrange(2) :] if rng.random() < 0.2 else part for part in parts)
        special = rng.random() < 0.7
        ours = model.tokenize(text, parse_special=special)
        # what `llama_tokenize` alone makes of it
        if ours != model._tokenize(text.encode(), parse_special=special):
            different.append([text, special])
    return {"compared": 1000, "different": different}


def _many(path: Path) -> dict[str, object]:
    from appliance.llama.model import Model

    model = Model(path, use_extra_bufts=False, vocab_only=True)
    assert model.eos is not None
    tokens = model.tokenize((model.text_of(model.eos) + "x") * 40_000, parse_special=True)
    return {"num_tokens": len(tokens), "num_special": tokens.count(model.eos)}


if __name__ == "__main__":
    json.dump({"compare": _compare, "many": _many}[sys.argv[1]](Path(sys.argv[2])), sys.stdout)

"""RWKV's and PLaMo 2's vocabularies: llama.cpp makes what their own software makes, which is
written here once more, and in other ways.
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest
from gguf import TokenType

from convert.__main__ import main
from convert.errors import DamagedCheckpoint
from convert.tokenizer.own_encoders import encoder_of
from convert.tokenizer.rwkv import escaped
from convert.tokenizer.sample_texts import SAMPLE_TEXTS
from tests.convert.checkpoints import golden_checkpoint
from tests.convert.tokenizer.vocabulary_files import verified

FILE = "rwkv_vocab_v20230424.txt"


def pieces_of_the_sample(count: int) -> list[str]:
    """Parts of the sample's texts, drawn from a fixed seed; never a whole end of one."""
    rng = random.Random(3)
    found: dict[str, None] = {}
    while len(found) < count:
        text = rng.choice(SAMPLE_TEXTS)
        if len(text) > 8:
            at = rng.randrange(len(text) - 6)
            found[text[at : at + rng.randrange(1, 6)]] = None
    return [piece for piece in found if "\ufeff" not in piece]


def write_rwkv(directory: Path) -> list[bytes]:
    """The bytes behind the id 0, as the file has them: some as text, some as bytes."""
    words = [piece.encode() for piece in pieces_of_the_sample(600) if len(piece.encode()) > 1]
    pieces = list(
        dict.fromkeys([*(bytes([byte]) for byte in range(256)), *words, b"\xe3\x81", b"'\""])
    )
    lines = []
    for token_id, piece in enumerate(pieces, start=1):
        try:
            shown = repr(piece.decode())
        except ValueError:
            shown = repr(piece)
        lines.append(f"{token_id} {shown} {len(piece)}\n")
    (directory / FILE).write_text("".join(lines), encoding="utf-8")
    return [b"", *pieces]


def test_rwkvs_longest_match(tmp_path: Path) -> None:
    pieces = write_rwkv(tmp_path)
    vocabulary = verified(tmp_path, len(pieces) + 7)
    assert vocabulary.table.model == "rwkv"
    assert vocabulary.tokens[0].text == "<s>"
    assert (vocabulary.special.bos, vocabulary.special.eos, vocabulary.special.add_bos) == (
        0,
        0,
        False,
    )
    encode = encoder_of(vocabulary.reference)
    assert encode is not None
    for text in SAMPLE_TEXTS:
        assert b"".join(pieces[token_id] for token_id in encode(text)) == text.encode()
    ids = encode("「ひ'\"")
    at = text_at = 0
    for token_id in ids:  # no longer one fits anywhere
        rest = "「ひ'\"".encode()[text_at:]
        assert not [p for p in pieces if rest.startswith(p) and len(p) > len(pieces[token_id])]
        text_at += len(pieces[token_id])
        at += 1
    assert at == len(ids)


def test_rwkvs_padding_is_no_text(tmp_path: Path) -> None:
    """llama.cpp finds every token of such a vocabulary, unused ones too."""
    rows = len(write_rwkv(tmp_path))
    vocabulary = verified(tmp_path, rows + 1)
    assert vocabulary.tokens[rows].text == f"\\xff[PAD{rows}]"
    assert vocabulary.tokens[rows].type is TokenType.UNUSED


def test_rwkvs_tokens_are_escaped() -> None:
    assert escaped("a\\é\n".encode()) == "a\\x5c\\xc3\\xa9\\x0a"


def test_a_whole_rwkv_7(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = golden_checkpoint("rwkv7", tmp_path / "rwkv7")
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (source / name).unlink()
    lines = [f"{byte + 1} {bytes([byte])!r} 1\n" for byte in range(256)]
    (source / FILE).write_text("".join([*lines, "257 ' the' 4\n"]), encoding="utf-8")
    assert main([str(source), "--out", str(tmp_path / "out"), "--types", "Q8_0", "--json"]) == 0
    done = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert done["verified"]
    assert ["a blank line" in note for note in done["notes"]] == [True]


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda text: text.replace("'\\x00' 1", "'\\x00' 2"), "malformed in line 1"),
        (lambda text: text.replace("2 '\\x01' 1", "1 '\\x01' 1"), "an id twice"),
        (lambda text: text.split("\n", 1)[1], "no token for the byte 0x00"),
        (lambda text: text.replace("1 '\\x00' 1", "1 f() 1"), "malformed in line 1"),
    ],
)
def test_malformed_rwkv_files_are_refused(
    change: Callable[[str], str], reason: str, tmp_path: Path
) -> None:
    write_rwkv(tmp_path)
    path = tmp_path / FILE
    path.write_text(change(path.read_text(encoding="utf-8")), encoding="utf-8")
    with pytest.raises(DamagedCheckpoint, match=reason):
        verified(tmp_path, 2000)


def plamo_rows() -> list[tuple[str, float, str]]:
    rng = random.Random(5)
    special = [("<|plamo:unk|>", 0.0, "UNKNOWN"), ("<|plamo:bos|>", 0.0, "CONTROL")]
    special += [("<|plamo:eos|>", 0.0, "CONTROL"), ("<|plamo:pad|>", 0.0, "CONTROL")]
    special += [("<|plamo:op|>", 0.0, "NORMAL")]
    of_bytes = [(f"<0x{byte:02X}>", 0.0, "BYTE") for byte in range(256)]
    words = [
        (piece, round(rng.uniform(-20, -4), 5), "NORMAL") for piece in pieces_of_the_sample(700)
    ]
    return [*special, *of_bytes, *words]


def write_plamo(directory: Path, rows: list[tuple[str, float, str]]) -> None:
    lines = [json.dumps([*row, 0, 0]) + "\n" for row in rows]
    (directory / "tokenizer.jsonl").write_text("".join(lines))


def test_plamo_2s_best_scores(tmp_path: Path) -> None:
    rows = plamo_rows()
    write_plamo(tmp_path, rows)
    vocabulary = verified(tmp_path, len(rows) + 5)
    assert vocabulary.table.model == "plamo2"
    assert vocabulary.tokens[4].type is TokenType.CONTROL
    assert vocabulary.tokens[len(rows)].score == -2000.0
    assert (vocabulary.special.bos, vocabulary.special.eos, vocabulary.special.pad) == (1, 2, 3)
    encode = encoder_of(vocabulary.reference)
    assert encode is not None
    scores = {text: round(score * 1e4) for text, score, kind in rows if kind != "BYTE"}
    for text in SAMPLE_TEXTS:
        found = [rows[token_id] for token_id in encode(text)]
        written = b"".join(
            bytes([int(text[3:5], 16)]) if kind == "BYTE" else text.encode()
            for text, _, kind in found
        )
        assert written == text.encode()
        assert cost(found) == best(text, scores)


def cost(found: list[tuple[str, float, str]]) -> int:
    """In ten-thousandths; bytes count once for each character."""
    total = 0
    for text, score, kind in found:
        if kind != "BYTE":
            total += round(score * 1e4)
        elif int(text[3:5], 16) & 0xC0 != 0x80:  # the first of a character
            total -= 10_000_000
    return total


def best(text: str, scores: dict[str, int]) -> int:
    """The most that any way to cut `text` scores, by trying all of them."""

    @cache
    def of_the_rest(at: int) -> int:
        if at == len(text):
            return 0
        ways = [of_the_rest(at + 1) - 10_000_000]
        for end in range(at + 1, min(at + 14, len(text)) + 1):
            if text[at:end] in scores:
                ways.append(scores[text[at:end]] + of_the_rest(end))
        return max(ways)

    return of_the_rest(0)


@pytest.mark.parametrize(
    ("line", "reason"),
    [("[1, 2]", "malformed in line 5"), ("{", "malformed in line 5")],
)
def test_malformed_plamo_files_are_refused(line: str, reason: str, tmp_path: Path) -> None:
    write_plamo(tmp_path, plamo_rows())
    path = tmp_path / "tokenizer.jsonl"
    lines = path.read_text().splitlines()
    path.write_text("\n".join([*lines[:4], line, *lines[5:]]))
    with pytest.raises(DamagedCheckpoint, match=reason):
        verified(tmp_path, 2000)


def test_a_plamo_file_needs_every_byte(tmp_path: Path) -> None:
    write_plamo(tmp_path, [row for row in plamo_rows() if row[0] != "<0x41>"])
    with pytest.raises(DamagedCheckpoint, match="the byte 0x41"):
        verified(tmp_path, 2000)

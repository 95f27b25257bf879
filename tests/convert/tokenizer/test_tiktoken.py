"""Vocabularies that are lists of ranks: what tiktoken made of the sample is what our reading of
them makes, and llama.cpp with the GGUF.
"""

from __future__ import annotations

import base64
import json
import random
from pathlib import Path
from typing import Any

import pytest
from tokenizers import Tokenizer, models

from convert.__main__ import main
from convert.config import Config
from convert.errors import DamagedCheckpoint, UnsupportedModel
from convert.tokenizer.byte_alphabet import as_text
from convert.tokenizer.own_encoders import encoder_of
from convert.tokenizer.pretokenizer import TEKKEN
from convert.tokenizer.tiktoken.classes import CLASSES
from convert.tokenizer.tiktoken.ranks import find_merges, read_ranks, split_by_rank
from convert.tokenizer.tiktoken.table import ranks_file, ranks_table
from convert.tokenizer.vocab import load_vocabulary
from tests.convert.checkpoints import Shape, write_checkpoint
from tests.convert.tokenizer.golden.ranks_texts import BY_HAND, NUM_RANKS, texts
from tests.convert.tokenizer.vocabulary_files import verified

GOLDEN = Path(__file__).parent / "golden"
RANKS_FILE = GOLDEN / "pieces.tiktoken"
ANSWERS: dict[str, Any] = json.loads((GOLDEN / "ranks.json").read_text())
FILES = {"TikTokenTokenizer": "tiktoken.model", "ChatGLM4Tokenizer": "tokenizer.model"}


def write_ranks(directory: Path, name: str, **tokenizer_config: Any) -> Path:
    """A folder as the class's repositories have it."""
    directory.mkdir(exist_ok=True)
    (directory / FILES.get(name, "vocabulary.tiktoken")).write_bytes(RANKS_FILE.read_bytes())
    config = {"tokenizer_class": name, **tokenizer_config}
    (directory / "tokenizer_config.json").write_text(json.dumps(config))
    return directory


def num_rows(name: str) -> int:
    return max(CLASSES[name].special(NUM_RANKS)) + 1


# the ids of the other classes' special tokens are far behind so few ranks
@pytest.mark.parametrize("name", ["TikTokenTokenizer", "ChatGLM4Tokenizer", "Arcade100kTokenizer"])
def test_llama_cpp_and_our_reading_make_what_tiktoken_makes(name: str, tmp_path: Path) -> None:
    named = {"added_tokens_decoder": {"1200": added("[BOS]"), "1201": added("[EOS]")}}
    given = named if name == "TikTokenTokenizer" else {}
    vocabulary = verified(write_ranks(tmp_path, name, **given), num_rows(name))
    encode = encoder_of(vocabulary.reference)
    assert encode is not None
    written = texts(name, ANSWERS["texts"])
    if given:
        special = list(CLASSES[name].special(NUM_RANKS).values())
        written[-1] = written[-1].replace(special[0], "[BOS]")
    assert [encode(text) for text in written] == ANSWERS["ids"][name]


def added(text: str) -> dict[str, Any]:
    return {"content": text, "special": True}


@pytest.mark.parametrize("name", ["QWenTokenizer", "HYTokenizer"])
def test_our_reading_of_the_other_classes(name: str, tmp_path: Path) -> None:
    path = ranks_file(write_ranks(tmp_path, name))
    assert path is not None
    config = {"auto_map": {"AutoTokenizer": [f"tokenization.{name}", None]}}
    table = ranks_table(path, config, Config("config.json", {}))
    encode = encoder_of(table.reference)
    assert encode is not None
    assert [encode(text) for text in texts(name, ANSWERS["texts"])] == ANSWERS["ids"][name]
    assert table.pre == "qwen2"


def test_whole_words_that_no_merges_make_are_told(tmp_path: Path) -> None:
    """llama.cpp has a pre-tokenizer for the split of GLM-4 and Llama 3 that finds them."""
    directory = write_ranks(tmp_path, "ChatGLM4Tokenizer")
    lines = [
        f"{base64.b64encode(piece).decode()} {NUM_RANKS + at}" for at, piece in enumerate(BY_HAND)
    ]
    with (directory / "tokenizer.model").open("a") as file:
        file.write("\n".join(lines))
    vocabulary = verified(directory, num_rows("ChatGLM4Tokenizer") + len(BY_HAND))
    assert vocabulary.table.pre == "llama-bpe"
    encode = encoder_of(vocabulary.reference)
    assert encode is not None
    assert [encode(text) for text in ANSWERS["texts"]] == ANSWERS["by_hand"]
    (directory / "tokenizer.model").rename(directory / "a.tiktoken")
    config = {"tokenizer_class": "Arcade100kTokenizer"}
    (directory / "tokenizer_config.json").write_text(json.dumps(config))
    vocabulary = load_vocabulary(
        directory, Config("config.json", {}), num_rows("Arcade100kTokenizer")
    )
    assert vocabulary.notes[0].startswith(
        "3 tokens of a.tiktoken ('123', 'guillemets', ' Καλημέρα')"
    )


def test_merges_do_what_the_ranks_do() -> None:
    """On every word of eight letters and fewer, of ranks that were put together at random."""
    rng = random.Random(7)
    tried = 0
    while tried < 20:
        pieces = [bytes([byte]) for byte in b"abc"]
        while len(pieces) < 14:
            pieces.append(rng.choice(pieces) + rng.choice(pieces))
        ranks = {piece: rank for rank, piece in enumerate(dict.fromkeys(pieces))}
        merges = find_merges(ranks)
        if len(merges.pairs) != len(ranks) - 3:
            continue  # some piece is not made of two others
        tried += 1
        vocab = {piece.decode(): rank for piece, rank in ranks.items()}
        pairs = [(left.decode(), right.decode()) for left, right in merges.pairs]
        tokenizer = Tokenizer(models.BPE(vocab=vocab, merges=pairs))
        for _ in range(200):
            word = bytes(rng.choices(b"abc", k=rng.randrange(1, 9)))
            expected = [ranks[part] for part in split_by_rank(ranks, word)]
            assert tokenizer.encode(word.decode()).ids == expected


def test_a_whole_checkpoint(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    name = "ChatGLM4Tokenizer"
    source = write_checkpoint(tmp_path / "source", Shape(vocab=num_rows(name) + 2))
    (source / "tokenizer.json").unlink()
    write_ranks(source, name)
    assert main([str(source), "--out", str(tmp_path / "out"), "--types", "Q8_0", "--json"]) == 0
    done = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert done["verified"]
    assert "[gMASK] and <sop>" in done["notes"][0]


def test_an_unknown_class_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(UnsupportedModel, match=r"\(StrangeTokenizer\).*Known are Arcade100k"):
        verified(write_ranks(tmp_path, "StrangeTokenizer"), 2000)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("IQ== 0\n!! 1\n", "malformed in line 2"),
        ("IQ== 0\nIg==\n", "malformed in line 2"),
        ("IQ== 0\nIQ== 1\n", "piece b'!' twice"),
        ("IQ== 0\n", "no rank for the byte 0x00"),
    ],
)
def test_malformed_files_are_refused(content: str, reason: str, tmp_path: Path) -> None:
    path = tmp_path / "a.tiktoken"
    path.write_text(content)
    with pytest.raises(DamagedCheckpoint, match=reason):
        read_ranks(path)


def test_two_pieces_of_one_rank_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.tiktoken"
    path.write_text(RANKS_FILE.read_text().replace(" 300\n", " 301\n"))
    with pytest.raises(DamagedCheckpoint, match="two pieces the same rank"):
        read_ranks(path)


def test_special_tokens_on_the_place_of_others_are_refused(tmp_path: Path) -> None:
    directory = write_ranks(
        tmp_path, "TikTokenTokenizer", added_tokens_decoder={"7": added("[BOS]")}
    )
    with pytest.raises(DamagedCheckpoint, match=r"'\[BOS\]' has the id 7"):
        verified(directory, 2000)


@pytest.mark.parametrize("listed", [{"x": {"content": "a"}}, {"7": "a"}, {"7": {}}, ["a"]])
def test_a_malformed_list_of_special_tokens_is_refused(listed: Any, tmp_path: Path) -> None:
    directory = write_ranks(tmp_path, "TikTokenTokenizer", added_tokens_decoder=listed)
    with pytest.raises(DamagedCheckpoint, match="malformed added_tokens_decoder"):
        verified(directory, 2000)


def tekken(**changes: Any) -> dict[str, Any]:
    """As mistral_common writes it, with 40 special tokens, of which 4 have names."""
    ranks = read_ranks(RANKS_FILE)
    names = ["<unk>", "<s>", "</s>", "[INST]"]
    return {
        "config": {
            "pattern": TEKKEN,
            "default_vocab_size": NUM_RANKS - 100,
            "default_num_special_tokens": 40,
            "version": "v13",
        },
        "vocab": [
            {"rank": rank, "token_bytes": base64.b64encode(piece).decode(), "token_str": None}
            for piece, rank in ranks.items()
        ],
        "special_tokens": [
            {"rank": at, "token_str": text, "is_control": True} for at, text in enumerate(names)
        ],
        **changes,
    }


def test_mistrals_tekken_json(tmp_path: Path) -> None:
    (tmp_path / "tekken.json").write_text(json.dumps(tekken()))
    vocabulary = verified(tmp_path, NUM_RANKS - 100)
    assert vocabulary.table.pre == "tekken"
    assert [token.text for token in vocabulary.tokens[1:6]] == [
        "<s>", "</s>", "[INST]", "<SPECIAL_4>", "<SPECIAL_5>",
    ]  # fmt: skip
    assert vocabulary.tokens[40].text == as_text(b"\0")
    assert (vocabulary.special.add_bos, vocabulary.special.bos) == (True, 1)


def test_the_first_tekken_files_leave_special_tokens_to_the_program(tmp_path: Path) -> None:
    content = tekken(special_tokens=None)
    content["config"]["version"] = "v3"
    (tmp_path / "tekken.json").write_text(json.dumps(content))
    vocabulary = load_vocabulary(tmp_path, Config("config.json", {}), NUM_RANKS - 100)
    texts = [token.text for token in vocabulary.tokens[:21]]
    assert texts[9:12] == ["[TOOL_CALLS]", "[IMG]", "<pad>"]
    assert texts[19:] == ["[TOOL_CONTENT]", "<SPECIAL_20>"]


@pytest.mark.parametrize(
    ("changes", "error", "reason"),
    [
        ({"special_tokens": None}, DamagedCheckpoint, "of version v13 lists no special_tokens"),
        ({"vocab": [{"rank": 0}]}, DamagedCheckpoint, "is malformed"),
        ({"vocab": []}, DamagedCheckpoint, "no rank for the byte"),
    ],
)
def test_other_tekken_files_are_refused(
    changes: dict[str, Any], error: type[Exception], reason: str, tmp_path: Path
) -> None:
    (tmp_path / "tekken.json").write_text(json.dumps(tekken(**changes)))
    with pytest.raises(error, match=reason):
        verified(tmp_path, NUM_RANKS - 100)

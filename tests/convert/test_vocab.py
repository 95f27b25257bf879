"""llama.cpp, reading our GGUF, tokenizes as Hugging Face's `tokenizers` reading the checkpoint."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, processors, trainers

from convert import pretokenizer
from convert.errors import DamagedCheckpoint, UnsupportedModel
from convert.pipeline import Job, convert
from tests.convert import native
from tests.convert.checkpoints import EMBEDDED, Shape, write_checkpoint

SHARED = Path(__file__).parents[2] / ".." / "shared" / "models"

SAMPLE = [
    "The quick brown fox doesn't jump; it'll wait.  Two  spaces,   three, and a trailing one ",
    "I'M SURE they'Ve said: \"1234567890 + 3.14159 = 2024-11-22\"\n\n\n\ttabs\tand\r\nnewlines\n",
    "Привет, мир! Ещё — «кавычки». Καλημέρα κόσμε. שלום עולם. مرحبا بالعالم",
    "日本語のテキストです。漢字とカタカナ、ひらがな。中文字符，標點。한국어 문장입니다.",
    "हिन्दी में देवनागरी लिपि। ภาษาไทยไม่มีวรรค ქართული Հայերեն አማርኛ",
    "emoji 👩‍👩‍👧‍👦🏳️‍🌈 ½ ² Ⅷ ①② naïve café Straße œuvre İstanbul ǅ ﬁ \u00a0nbsp\u2003em\u3000wide",
    "def f(x):\n    return {'a': x[0]**2, \"b\": [i for i in range(10)]}  # comment\n\t\tif x != y: pass",
    "mixed123abc 12ab34 x²y³ __init__ C++ a.b.c http://example.org/?q=1&r=%20 ~`@#$^*()_+-=|\\<>",
    " leading", "\n", " ", "   ", "a", "", "…", "\x00\x7f\ufeff",
]  # fmt: skip


def convert_f16(source: Path, out: Path) -> Path:
    return convert(Job(source, out, "vocab", ("F16",), num_threads=2))[0].path


def reference(source: Path, texts: list[str], *, add_special: bool) -> list[list[int]]:
    tokenizer = Tokenizer.from_file(str(source / "tokenizer.json"))
    return [tokenizer.encode(text, add_special_tokens=add_special).ids for text in texts]


def assert_same_tokens(source: Path, out: Path, texts: list[str]) -> None:
    model = convert_f16(source, out)
    for add_special in (False, True):
        expected = reference(source, texts, add_special=add_special)
        actual = native.tokenize(model, texts, add_special=add_special)
        differing = [text for text, a, b in zip(texts, actual, expected, strict=True) if a != b]
        assert not differing


def test_embedded_tokenizes_as_hugging_face(tmp_path: Path) -> None:
    chat = "<|im_start|>user\nWho is there?<|im_end|>\n<|im_start|>assistant\n<|endoftext|>"
    assert_same_tokens(EMBEDDED / "novels-6m", tmp_path, [*SAMPLE, chat])


def test_embedded_metadata_as_llama_cpp_reads_it(tmp_path: Path) -> None:
    source = EMBEDDED / "novels-6m"
    assert native.describe(convert_f16(source, tmp_path)) == {
        "bos": 0,
        "eos": 2,
        "eot": 2,
        "pad": 3,
        "add_bos": False,  # its post-processor adds nothing
        "num_tokens": 4096,
        "chat_template": (source / "chat_template.jinja").read_text(),
    }


@pytest.fixture
def stories() -> Path:
    if not SHARED.is_dir():
        pytest.skip("the shared checkpoints are not beside the repository")
    return SHARED / "stories260K"


def test_sentencepiece_tokenizes_as_hugging_face(stories: Path, tmp_path: Path) -> None:
    assert_same_tokens(stories, tmp_path, SAMPLE)


def test_sentencepiece_without_its_tokenizer_model(stories: Path, tmp_path: Path) -> None:
    source = tmp_path / "stories"
    shutil.copytree(stories, source, copy_function=shutil.copyfile)
    source.chmod(0o755)
    (source / "tokenizer.model").unlink()
    assert_same_tokens(source, tmp_path, SAMPLE)


def test_sentencepiece_without_tokenizer_json_adds_bos(stories: Path, tmp_path: Path) -> None:
    source = tmp_path / "stories"
    shutil.copytree(stories, source, copy_function=shutil.copyfile)
    source.chmod(0o755)
    (source / "tokenizer.json").unlink()
    tokens = native.tokenize(convert_f16(source, tmp_path), SAMPLE, add_special=True)
    assert tokens == reference(stories, SAMPLE, add_special=True)


def split(expression: str) -> Any:
    return pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(expression), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )


def trained_checkpoint(directory: Path, pre: Any, *, ignore_merges: bool = False, bos: bool = False) -> Path:
    """A random model with a BPE trained on the sample, split by `pre`."""
    tokenizer = Tokenizer(models.BPE(ignore_merges=ignore_merges))
    tokenizer.pre_tokenizer = pre
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=600,
        special_tokens=["<|begin|>", "<|end|>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(SAMPLE * 2, trainer)
    if bos:
        tokenizer.post_processor = processors.Sequence(
            [
                processors.ByteLevel(trim_offsets=False),
                processors.TemplateProcessing("<|begin|> $A", special_tokens=[("<|begin|>", 0)]),
            ]
        )
    write_checkpoint(directory, Shape(vocab=tokenizer.get_vocab_size()))
    tokenizer.save(str(directory / "tokenizer.json"))
    (directory / "tokenizer_config.json").write_text(json.dumps({"bos_token": "<|begin|>", "eos_token": "<|end|>"}))
    return directory


@pytest.mark.parametrize(
    ("name", "pre", "ignore_merges"),
    [
        ("gpt-2", pre_tokenizers.ByteLevel(add_prefix_space=False), False),
        (
            "smollm",
            pre_tokenizers.Sequence(
                [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
            ),
            False,
        ),
        ("llama-bpe", split(pretokenizer.LLAMA3), True),
        ("dbrx", split(pretokenizer.LLAMA3), False),
        ("qwen2", split(pretokenizer.QWEN2), False),
    ],
)
def test_every_known_pretokenizer_splits_as_hugging_face(
    tmp_path: Path, name: str, pre: Any, ignore_merges: bool
) -> None:
    source = trained_checkpoint(tmp_path / "source", pre, ignore_merges=ignore_merges, bos=True)
    section = json.loads((source / "tokenizer.json").read_text())["pre_tokenizer"]
    assert pretokenizer.find_pretokenizer(section, ignore_merges) == name
    assert_same_tokens(source, tmp_path, SAMPLE)


def test_unknown_pretokenizer_is_refused_with_its_expressions(tmp_path: Path) -> None:
    source = trained_checkpoint(tmp_path / "source", split(r"\w+|\W+"))
    with pytest.raises(UnsupportedModel, match=r"no pre-tokenizer known here that splits by .*w\+\|"):
        convert_f16(source, tmp_path)


def change_json(path: Path, **changes: Any) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def test_a_list_of_templates_keeps_every_one(tmp_path: Path) -> None:
    source = write_checkpoint(tmp_path / "source", Shape())
    templates = [{"name": "default", "template": "{{ 1 }}"}, {"name": "tool_use", "template": "{{ 2 }}"}]
    change_json(source / "tokenizer_config.json", chat_template=templates)
    assert native.describe(convert_f16(source, tmp_path))["chat_template"] == "{{ 1 }}"


def test_tokenizer_larger_than_the_embedding_is_refused(tmp_path: Path) -> None:
    source = write_checkpoint(tmp_path / "source", Shape(vocab=200))
    with pytest.raises(DamagedCheckpoint, match="vocab_size of 200"):
        convert_f16(source, tmp_path)


def test_rows_without_a_token_are_filled_up(tmp_path: Path) -> None:
    source = write_checkpoint(tmp_path / "source", Shape(vocab=300))
    assert native.describe(convert_f16(source, tmp_path))["num_tokens"] == 300


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"normalizer": {"type": "Lowercase"}}, "normalizes text"),
        ({"pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": True}}, "space before every text"),
        ({"pre_tokenizer": {"type": "Whitespace"}}, "without byte level"),
        ({"model": {"type": "WordPiece", "vocab": {}}}, "WordPiece"),
        ({"post_processor": {"type": "BertProcessing"}}, "BertProcessing"),
    ],
)
def test_what_llama_cpp_would_do_differently_is_refused(tmp_path: Path, changes: dict[str, Any], reason: str) -> None:
    source = write_checkpoint(tmp_path / "source", Shape())
    change_json(source / "tokenizer.json", **changes)
    with pytest.raises(UnsupportedModel, match=reason):
        convert_f16(source, tmp_path)

"""The `tokenizer.*` entries of a GGUF, from a checkpoint's tokenizer files. Knows no weights."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from gguf import TokenType

from convert.chat_template import load_chat_templates
from convert.config import Config
from convert.errors import BadInput, DamagedCheckpoint
from convert.gguf_header import Field, boolean, f32_array, i32_array, string, string_array, u32
from convert.special_tokens import SpecialTokens, TokenizerFiles, find_special_tokens
from convert.token_table import Token, TokenTable, load_token_table, read_added_tokens


@dataclass(frozen=True)
class Vocabulary:
    """A whole tokenizer: one token for every row of the embedding. `chat_templates` by name, mostly "default"."""

    table: TokenTable
    tokens: tuple[Token, ...]
    special: SpecialTokens
    chat_templates: dict[str, str]

    def fields(self) -> list[Field]:
        """Keys: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md#tokenizer."""
        fields = [
            string("tokenizer.ggml.model", self.table.model),
            string("tokenizer.ggml.pre", self.table.pre),
            string_array("tokenizer.ggml.tokens", (token.text for token in self.tokens)),
            i32_array("tokenizer.ggml.token_type", (token.type for token in self.tokens)),
        ]
        if self.table.merges is None:
            fields.append(f32_array("tokenizer.ggml.scores", (token.score for token in self.tokens)))
        else:
            fields.append(string_array("tokenizer.ggml.merges", self.table.merges))
        if self.table.add_space_prefix is not None:
            fields.append(boolean("tokenizer.ggml.add_space_prefix", self.table.add_space_prefix))
        return fields + self._special_fields() + self._template_fields()

    def _special_fields(self) -> list[Field]:
        ids = {
            "bos_token_id": self.special.bos,
            "eos_token_id": self.special.eos,
            "eot_token_id": self.special.eot,
            "unknown_token_id": self.special.unk,
            "padding_token_id": self.special.pad,
        }
        return [
            *(u32(f"tokenizer.ggml.{role}", token_id) for role, token_id in ids.items() if token_id is not None),
            boolean("tokenizer.ggml.add_bos_token", self.special.add_bos),
            boolean("tokenizer.ggml.add_eos_token", self.special.add_eos),
        ]

    def _template_fields(self) -> list[Field]:
        named = {name: text for name, text in self.chat_templates.items() if name != "default"}
        fields = [string(f"tokenizer.chat_template.{name}", text) for name, text in named.items()]
        if named:
            fields.append(string_array("tokenizer.chat_templates", named))
        if "default" in self.chat_templates:
            fields.append(string("tokenizer.chat_template", self.chat_templates["default"]))
        return fields


def load_vocabulary(directory: Path, config: Config, vocab_size: int) -> Vocabulary:
    """The tokenizer in `directory`, filled up to `vocab_size` tokens. Raises `BadInput` with the reason."""
    files = TokenizerFiles.read(directory)
    added = read_added_tokens(directory, files.tokenizer, files.tokenizer_config)
    table = load_token_table(directory, files.tokenizer, added)
    tokens = _fill(table.tokens, vocab_size)
    ids = {token.text: token_id for token_id, token in enumerate(tokens)}
    special = find_special_tokens(files, config, ids, adds_bos_by_default=table.model == "llama")
    if special.eos is None:
        raise BadInput("No file of the checkpoint names an end-of-sequence token (eos_token): it would never stop.")
    return Vocabulary(table, tokens, special, load_chat_templates(directory, files.tokenizer_config))


def _fill(tokens: dict[int, Token], vocab_size: int) -> tuple[Token, ...]:
    """Tokens 0 to `vocab_size` - 1; rows of the embedding that no token uses get a name of their own."""
    outside = [i for i in tokens if type(i) is not int or not 0 <= i < vocab_size]
    if outside:
        raise DamagedCheckpoint(
            f"The tokenizer has a token {outside[0]} and config.json a vocab_size of {vocab_size}: they are not of the "
            "same model."
        )
    filled = tuple(tokens.get(i) or Token(f"[PAD{i}]", TokenType.UNUSED) for i in range(vocab_size))
    text, count = Counter(token.text for token in filled).most_common(1)[0]
    if count > 1:
        raise DamagedCheckpoint(f"The tokenizer has {count} tokens with the text {text!r}; they must differ.")
    return filled

"""The `tokenizer.*` entries of a GGUF, from a checkpoint's tokenizer files.

Knows no weights.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from convert.config import Config
from convert.errors import BadInput, DamagedCheckpoint, MissingFile
from convert.gguf.header import Field, boolean, f32_array, i32_array, string, string_array, u32
from convert.tokenizer.bpe_tables import (
    byte_level_table,
    gemma4_table,
    is_byte_level,
    sentencepiece_table,
)
from convert.tokenizer.chat_template import load_chat_templates
from convert.tokenizer.deviation import Deviation
from convert.tokenizer.plamo2 import plamo2_file, plamo2_table
from convert.tokenizer.rwkv import rwkv_file, rwkv_table
from convert.tokenizer.sentencepiece_table import sentencepiece_file, tokenizer_model_table
from convert.tokenizer.special_tokens import SpecialTokens, TokenizerFiles, find_special_tokens
from convert.tokenizer.tiktoken.table import ranks_file, ranks_table
from convert.tokenizer.token_table import (
    AddedToken,
    Token,
    TokenTable,
    never_found,
    padding_token,
    read_added_tokens,
    with_added,
    without_tokens,
)
from convert.tokenizer.unigram import is_unigram, unigram_table
from convert.tokenizer.vocab_and_merges import (
    has_vocab_and_merges,
    tokenizer_from_vocab_and_merges,
)
from convert.tokenizer.wordpiece import tokenizer_from_vocab_txt, wordpiece_table

_SHOWN_TOKENS = 3  # of a list of them
# llama.cpp refuses a file of that name without them
_PHI3_TOKENS = {"<s>", "</s>", "<unk>", "<|endoftext|>"}


@dataclass(frozen=True, kw_only=True)
class Vocabulary:
    """A whole tokenizer: one token for every row of the embedding."""

    table: TokenTable
    tokens: tuple[Token, ...]
    added: tuple[AddedToken, ...]
    special: SpecialTokens
    chat_templates: dict[str, str]  # by name, mostly "default"
    dropped: tuple[AddedToken, ...] = ()  # for which the embedding has no rows
    notes_on_files: tuple[str, ...] = ()  # sentences on files that contradict each other

    @property
    def reference(self) -> dict[str, Any]:
        """A tokenizer.json to compare with."""
        return self.table.reference

    @property
    def lowers_texts(self) -> bool:
        """Whether the tokenizer itself makes no difference between small and capital
        letters.
        """
        normalizer = json.dumps(self.reference.get("normalizer"))
        return '"lowercase": true' in normalizer or '"Lowercase"' in normalizer

    @property
    def deviations(self) -> frozenset[Deviation]:
        return self.table.deviations

    @property
    def notes(self) -> tuple[str, ...]:
        """What the user should know of this tokenizer, as sentences."""
        deviations = sorted(f"{deviation.value}." for deviation in self.deviations)
        return (*self.special.notes, *self.notes_on_files, *self._notes_on_added(), *deviations)

    def _notes_on_added(self) -> Iterator[str]:
        if self.dropped:
            yield (
                f"Left out because the model has only {len(self.tokens)} rows for tokens: the "
                f"added tokens from {self.dropped[0].id} on ({_few(self.dropped)}). Their text is "
                "read as ordinary text."
            )
        if self.table.model == "bert":
            return  # its words are the same with spaces between them or without
        strip = [token for token in self.misplaced if token.strips_left or token.strips_right]
        if strip:
            yield (
                f"llama.cpp keeps the spaces beside {_few(strip)}, which this tokenizer drops: "
                "text with spaces there gives other tokens. Chat templates rarely have any."
            )
        words = [token for token in self.misplaced if token.single_word]
        if words:
            yield (
                f"llama.cpp finds {_few(words)} inside words too, where this tokenizer does not."
            )

    @property
    def strips_by_name(self) -> bool:
        """Whether llama.cpp drops the spaces after special tokens, as this tokenizer
        does, where the model has the right name.
        """
        return any(token.strips_right for token in self.added) and _PHI3_TOKENS.issubset(
            token.text for token in self.tokens
        )

    @property
    def misplaced(self) -> tuple[AddedToken, ...]:
        """Added tokens that llama.cpp finds in other places, or with other spaces."""
        return tuple(
            token
            for token in self.added
            if token.strips_left
            or token.single_word
            or (token.strips_right and not self.strips_by_name)
        )

    def model_name(self, name: str) -> str:
        """`name` as `general.name` may have it.

        llama.cpp drops the spaces after special tokens for models with "phi-3" in that
        name, and for no others (`llama_vocab::impl::load`); so the name must say what
        the tokenizer does.
        """
        strips = self.strips_by_name
        is_named_so = any(mark in name.lower() for mark in ("phi-3", "phi3"))
        if strips and not is_named_so:
            return f"{name} (phi-3)"
        if is_named_so and not strips:
            return re.sub(r"(?i)(phi)-?(3)", r"\1 \2", name)
        return name

    def fields(self) -> list[Field]:
        """Keys: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md#tokenizer."""
        fields = [
            string("tokenizer.ggml.model", self.table.model),
            string("tokenizer.ggml.pre", self.table.pre),
            string_array("tokenizer.ggml.tokens", (token.text for token in self.tokens)),
            i32_array("tokenizer.ggml.token_type", (token.type for token in self.tokens)),
        ]
        if self.table.merges is not None:
            fields.append(string_array("tokenizer.ggml.merges", self.table.merges))
        elif self.table.model in ("llama", "t5", "plamo2"):
            fields.append(
                f32_array("tokenizer.ggml.scores", (token.score for token in self.tokens))
            )
        return [*fields, *self.table.fields, *self._special_fields(), *self._template_fields()]

    def _special_fields(self) -> list[Field]:
        ids = {
            "bos_token_id": self.special.bos,
            "eos_token_id": self.special.eos,
            "eot_token_id": self.special.eot,
            "eom_token_id": self.special.eom,
            "unknown_token_id": self.special.unk,
            "padding_token_id": self.special.pad,
            "seperator_token_id": self.special.sep,  # spelled so in the format
            "cls_token_id": self.special.cls,
            "mask_token_id": self.special.mask,
        }
        return [
            *(
                u32(f"tokenizer.ggml.{role}", token_id)
                for role, token_id in ids.items()
                if token_id is not None
            ),
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


def _few(tokens: Sequence[AddedToken]) -> str:
    names = ", ".join(repr(token.text) for token in tokens[:_SHOWN_TOKENS])
    more = len(tokens) - _SHOWN_TOKENS
    return f"{names} and {more} more" if more > 0 else names


def load_vocabulary(directory: Path, config: Config, vocab_size: int) -> Vocabulary:
    """The tokenizer in `directory`, filled up to `vocab_size` tokens.

    Raises `BadInput` with the reason.
    """
    files = TokenizerFiles.read(directory)
    if not files.tokenizer and has_vocab_and_merges(directory):
        tokenizer = tokenizer_from_vocab_and_merges(
            directory, config, files.tokenizer_config, files.special_tokens_map
        )
        files = replace(files, tokenizer=tokenizer)
    try:
        return _read_vocabulary(directory, files, config, vocab_size)
    except (AttributeError, LookupError, TypeError) as error:
        # a list or a number where the format has an object
        raise DamagedCheckpoint(f"{directory}: a tokenizer file is malformed: {error!r}") from error


def _read_vocabulary(
    directory: Path, files: TokenizerFiles, config: Config, vocab_size: int
) -> Vocabulary:
    table = _load_table(directory, files, config)
    defaults = {**table.defaults, **files.tokenizer_config}
    files = replace(files, tokenizer_config=defaults)
    listed = read_added_tokens(directory, table.reference, files.tokenizer_config)
    added = [token for token in listed if token.id < vocab_size]
    dropped = [token for token in listed if token.id >= vocab_size]
    table = without_tokens(table, {token.id for token in dropped})
    outside = [i for i in table.tokens if type(i) is int and i >= vocab_size]
    lost = never_found(table, outside)
    table = with_added(without_tokens(table, lost), added)
    tokens = _fill(table, vocab_size)
    ids = {token.text: token_id for token_id, token in enumerate(tokens)}
    special = find_special_tokens(
        files, config, ids, model=table.model, processor=table.reference.get("post_processor")
    )
    if special.eos is None:
        raise BadInput(
            "No file of the checkpoint names an end-of-sequence token (eos_token). Without one, "
            "the model would never stop."
        )
    return Vocabulary(
        table=table,
        tokens=tokens,
        added=tuple(added),
        special=special,
        chat_templates=load_chat_templates(directory, files.tokenizer_config),
        dropped=tuple(dropped),
        notes_on_files=(*table.notes, *_prefix_notes(table, files), *_cut_notes(lost, vocab_size)),
    )


def _cut_notes(lost: Collection[int], vocab_size: int) -> tuple[str, ...]:
    if not lost:
        return ()
    return (
        f"Left out because the model has only {vocab_size} rows for tokens: {len(lost)} tokens "
        f"from {min(lost)} on, which no text becomes.",
    )


def _prefix_notes(table: TokenTable, files: TokenizerFiles) -> tuple[str, ...]:
    """GPT-2's own class adds a space that tokenizer.json does not."""
    if table.model != "gpt2" or not files.tokenizer_config.get("add_prefix_space"):
        return ()
    if Deviation.LEADING_SPACE in table.deviations:
        return ()
    return (
        "tokenizer_config.json asks for a space before every text (add_prefix_space), but "
        "tokenizer.json adds none. tokenizer.json was followed.",
    )


def _load_table(directory: Path, files: TokenizerFiles, config: Config) -> TokenTable:
    tokenizer = files.tokenizer
    if not tokenizer and (made := _table_of_other_kinds(directory, files, config)) is not None:
        return made
    words_path = directory / "vocab.txt"
    if is_byte_level(tokenizer.get("pre_tokenizer")):
        return byte_level_table(tokenizer)
    if (tokenizer.get("model") or {}).get("type") == "WordPiece":
        return wordpiece_table(tokenizer)
    if is_unigram(tokenizer):
        return unigram_table(tokenizer)
    if tokenizer and str(config.values.get("model_type")).startswith("gemma4"):
        return gemma4_table(tokenizer)
    if (model := sentencepiece_file(directory)) is not None:
        return tokenizer_model_table(model, tokenizer, files.tokenizer_config, config)
    if tokenizer:
        return sentencepiece_table(tokenizer)
    if words_path.exists():
        return wordpiece_table(tokenizer_from_vocab_txt(words_path, files.tokenizer_config))
    raise MissingFile(
        f"{directory} contains neither tokenizer.json nor tokenizer.model nor vocab.txt nor "
        "vocab.json with merges.txt nor another vocabulary that is known here."
    )


def _table_of_other_kinds(
    directory: Path, files: TokenizerFiles, config: Config
) -> TokenTable | None:
    """Of vocabularies that never have a tokenizer.json."""
    if (path := rwkv_file(directory)) is not None:
        return rwkv_table(path)
    if (path := plamo2_file(directory)) is not None:
        return plamo2_table(path)
    if (path := ranks_file(directory)) is not None:
        return ranks_table(path, files.tokenizer_config, config)
    return None


def _fill(table: TokenTable, vocab_size: int) -> tuple[Token, ...]:
    """Tokens 0 to `vocab_size` - 1; rows of the embedding that no token uses get a name
    of their own.
    """
    tokens = table.tokens
    outside = [i for i in tokens if type(i) is not int or not 0 <= i < vocab_size]
    if outside:
        raise DamagedCheckpoint(
            f"The tokenizer has a token {outside[0]}, but config.json has a vocab_size of "
            f"{vocab_size}: they do not belong to the same model."
        )
    filled = tuple(tokens.get(i) or padding_token(table.model, i) for i in range(vocab_size))
    text, count = Counter(token.text for token in filled).most_common(1)[0]
    if count > 1:
        raise DamagedCheckpoint(
            f"The tokenizer has {count} tokens with the text {text!r}; every text must be unique."
        )
    return filled

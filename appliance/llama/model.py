"""A loaded GGUF: its weights and its vocabulary. Knows no context and no sequences."""

from __future__ import annotations

import ctypes
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import llama_cpp

from appliance.errors import LoadFailed
from appliance.llama.gpu import GpuLayers
from appliance.llama.loading.handle import load_handle
from appliance.llama.memory_kind import MemoryKind
from appliance.llama.vocabulary.gaps import VocabularyGaps
from appliance.llama.vocabulary.special_tokens import SpecialToken, SpecialTokens
from appliance.llama.vocabulary.spelling import Spelling
from appliance.llama.vocabulary.unknown import unknown_token
from appliance.protocol.file_range import FileRange

_MAX_PIECES = 8192  # texts of tokens kept at hand: of a large vocabulary most are never written
_USUAL_PIECE_BYTES = 64  # of a token; longer ones are asked for again
_MAX_DRY_SAMPLERS = 8
_FIM_TOKENS = {
    "pre": llama_cpp.llama_vocab_fim_pre,
    "suf": llama_cpp.llama_vocab_fim_suf,
    "mid": llama_cpp.llama_vocab_fim_mid,
    "rep": llama_cpp.llama_vocab_fim_rep,
    "sep": llama_cpp.llama_vocab_fim_sep,
    "pad": llama_cpp.llama_vocab_fim_pad,
}
_USUAL_STRING_BYTES = 256  # of metadata; longer ones, such as chat templates, are asked for again


class Model:
    """Wraps `llama_model` and its `llama_vocab`; `close` frees them.

    Raises `LoadFailed` with llama.cpp's own words.

    With `use_mmap` weights stay in the mapped file, where the devices that hold them
    allow it. `is_dry`: nothing can be computed with it, but what a context would take
    can be asked. `with_heads`: the layers that predict further tokens are loaded too.
    """

    def __init__(
        self,
        path: Path,
        *,
        use_extra_bufts: bool,
        vocab_only: bool = False,
        use_mmap: bool = True,
        is_dry: bool = False,
        with_heads: bool = False,
        gpu: GpuLayers | None = None,
        tables: Sequence[FileRange] = (),
    ) -> None:
        """`tables`: parts of the file that are read as they are used."""
        handle = self.handle = load_handle(
            path,
            use_extra_bufts=use_extra_bufts,
            vocab_only=vocab_only,
            is_mapped=use_mmap and not is_dry,  # llama.cpp insists
            is_dry=is_dry,
            with_heads=with_heads,
            gpu=gpu or GpuLayers(),
            tables=tables if use_mmap else (),
        )
        self._dry_samplers: dict[tuple[object, ...], ctypes.c_void_p] = {}
        self._vocab = llama_cpp.llama_model_get_vocab(handle)
        self._pieces: dict[int, bytes] = {}
        self.num_vocab: int = llama_cpp.llama_vocab_n_tokens(self._vocab)
        self.train_ctx: int = llama_cpp.llama_model_n_ctx_train(handle)
        self.num_params: int = llama_cpp.llama_model_n_params(handle)
        self.bos = self._declared("bos", llama_cpp.llama_vocab_bos(self._vocab))
        eos: int = llama_cpp.llama_vocab_eos(self._vocab)
        self.eos = self._declared("eos", eos)
        self.end_tokens = frozenset(
            t
            for t in range(self.num_vocab)
            if llama_cpp.llama_vocab_is_eog(self._vocab, t) and (t != eos or t == self.eos)
        )
        self.memory = MemoryKind.of(handle)
        # Those that are there, by llama.cpp's names.
        fim_tokens = ((name, token_of(self._vocab)) for name, token_of in _FIM_TOKENS.items())
        self.fim_tokens: Mapping[str, int] = {
            name: token for name, token in fim_tokens if token >= 0
        }
        self.adds_bos: bool = llama_cpp.llama_vocab_get_add_bos(self._vocab)
        special = list(self._read_special_tokens())
        self._special_tokens = SpecialTokens(special)
        self._spelling = Spelling(self.read_piece, self.num_vocab, self._control_names(special))
        # see `appliance.worker.child.tokenizing.text_pieces.PieceVocabulary`
        self.adds_space_prefix = self._adds_space_prefix()
        self.prefixes_blanks = self._kind == llama_cpp.LLAMA_VOCAB_TYPE_SPM
        self._gaps = VocabularyGaps(
            self._vocab,
            self.num_vocab,
            self._tokenize_plain,
            self.read_piece,
            adds_space_prefix=self.adds_space_prefix,
        )

    def close(self) -> None:
        for sampler in self._dry_samplers.values():
            llama_cpp.llama_sampler_free(sampler)
        self._dry_samplers.clear()
        llama_cpp.llama_model_free(self.handle)

    @property
    def quantization(self) -> str:
        name: bytes = llama_cpp.llama_ftype_name(llama_cpp.llama_model_ftype(self.handle))
        return name.decode()

    def metadata(self, key: str) -> str | None:
        """The metadata value of `key` as llama.cpp prints it;
        None if the file has none.
        """
        size = _USUAL_STRING_BYTES
        while True:
            buffer = ctypes.create_string_buffer(size)
            length = llama_cpp.llama_model_meta_val_str(self.handle, key.encode(), buffer, size)
            if length < size:
                return None if length < 0 else buffer.value.decode("utf-8", errors="replace")
            size = length + 1

    def tokenize(self, text: str, *, parse_special: bool) -> list[int]:
        """Token ids of `text`, without BOS or EOS; `parse_special` reads written
        special tokens as such.

        Raises `BadRequest` for a character that the vocabulary cannot write.
        """
        data = text.encode("utf-8", errors="replace")  # half of a surrogate is no character
        if not self._special_tokens.can_split:
            return self._tokenize(data, parse_special=parse_special)
        tokens: list[int] = []
        for piece in self._special_tokens.split(data, parse_special=parse_special):
            if isinstance(piece, int):
                tokens.append(piece)
            else:
                tokens += self._tokenize(piece, parse_special=False)
        return tokens

    def special_pieces(self, text: str) -> list[int | str] | None:
        """`text` cut at the special tokens written in it, these as ids; None where
        llama.cpp does not promise in which places it finds them.
        """
        if not self._special_tokens.can_split:
            return None
        pieces = self._special_tokens.split(text.encode("utf-8"), parse_special=True)
        return [
            piece if isinstance(piece, int) else piece.decode("utf-8", "replace")
            for piece in pieces
        ]

    @property
    def has_pooling(self) -> bool:
        """Whether the file has a way to pool token embeddings into one."""
        architecture = self.metadata("general.architecture")
        return self.metadata(f"{architecture}.pooling_type") not in (None, "0", "-1")

    @property
    def separator(self) -> int | None:
        token: int = llama_cpp.llama_vocab_sep(self._vocab)
        return token if token >= 0 else None

    @property
    def adds_end_and_separator(self) -> bool:
        """Whether the first of two texts is followed by an end of its own, and then by
        the separator.
        """
        # its end is the separator
        if llama_cpp.llama_vocab_type(self._vocab) == llama_cpp.LLAMA_VOCAB_TYPE_WPM:
            return False
        adds_eos: bool = llama_cpp.llama_vocab_get_add_eos(self._vocab)
        return adds_eos and bool(llama_cpp.llama_vocab_get_add_sep(self._vocab))

    def tokens_around(self) -> tuple[int, ...]:
        """All that llama.cpp puts around a text: BOS, EOS, `[CLS]`, `[SEP]`, whatever
        the vocabulary wants.
        """
        self._check_tokens_around()
        tokens = (llama_cpp.llama_token * 8)()
        count = llama_cpp.llama_tokenize(self._vocab, b"", 0, tokens, len(tokens), True, False)
        assert 0 <= count <= len(tokens)
        return tuple(tokens[:count])

    def _check_tokens_around(self) -> None:
        """llama.cpp asserts that there are those that it is to add.

        Raises `LoadFailed`.
        """
        is_wordpiece = self._kind == llama_cpp.LLAMA_VOCAB_TYPE_WPM
        needed = {
            "BOS": (self.adds_bos or is_wordpiece, llama_cpp.llama_vocab_bos),
            "EOS": (
                not is_wordpiece and llama_cpp.llama_vocab_get_add_eos(self._vocab),
                llama_cpp.llama_vocab_eos,
            ),
            "separator": (is_wordpiece, llama_cpp.llama_vocab_sep),
        }
        for name, (is_needed, token_of) in needed.items():
            if is_needed and token_of(self._vocab) < 0:
                raise LoadFailed(
                    f"The vocabulary wants a {name} token around each text, and has none. Convert "
                    "the model again."
                )

    def _tokenize(self, data: bytes, *, parse_special: bool) -> list[int]:
        self._gaps.check_before(data)
        tokens = self._llama_tokenize(data, parse_special=parse_special)
        self._gaps.check_after(data, tokens)
        return tokens if parse_special else self._spelling.as_plain(tokens)

    def _tokenize_plain(self, data: bytes) -> list[int]:
        return self._llama_tokenize(data, parse_special=False)

    def _llama_tokenize(self, data: bytes, *, parse_special: bool) -> list[int]:
        size = len(data) + 2  # a token is at least a byte; SentencePiece adds a space in front
        while True:
            tokens = (llama_cpp.llama_token * size)()
            count = llama_cpp.llama_tokenize(
                self._vocab, data, len(data), tokens, size, False, parse_special
            )
            if count >= 0:
                return list(tokens[:count])
            size = -count

    @property
    def splits_by_guess(self) -> bool:
        """Whether the file lacks its pre-tokenizer, which only BPE has."""
        is_bpe = self._kind == llama_cpp.LLAMA_VOCAB_TYPE_BPE
        return is_bpe and not self.metadata("tokenizer.ggml.pre")

    @property
    def _kind(self) -> int:
        kind: int = llama_cpp.llama_vocab_type(self._vocab)
        return kind

    def _declared(self, name: str, token: int) -> int | None:
        """A token that begins or ends texts, if the file says so: where it says nothing,
        llama.cpp takes one by its number, whatever it is.
        """
        if token < 0:
            return None
        is_said = self.metadata(f"tokenizer.ggml.{name}_token_id") == str(token)
        return token if is_said or self._is_control(token) else None

    def _control_names(self, special: Sequence[SpecialToken]) -> dict[int, bytes]:
        """All but the unknown token's: converters mark it as one too, and any text may come
        to it.
        """
        unknown = unknown_token(self._kind, self.metadata("tokenizer.ggml.unknown_token_id"))
        control = (one for one in special if self._is_control(one.token))
        return {one.token: one.text for one in control if one.token != unknown}

    def _is_control(self, token: int) -> bool:
        attributes: int = llama_cpp.llama_vocab_get_attr(self._vocab, token)
        return bool(attributes & llama_cpp.LLAMA_TOKEN_ATTR_CONTROL)

    def _adds_space_prefix(self) -> bool:
        """llama.cpp's rule (`llama_vocab::impl::load`)."""
        kind = self._kind
        if kind == llama_cpp.LLAMA_VOCAB_TYPE_WPM:
            return True  # of each word
        if kind not in (llama_cpp.LLAMA_VOCAB_TYPE_SPM, llama_cpp.LLAMA_VOCAB_TYPE_UGM):
            return False
        said = self.metadata("tokenizer.ggml.add_space_prefix")
        merges = self.metadata("tokenizer.ggml.remove_extra_whitespaces") == "true"
        if said is None:
            return kind == llama_cpp.LLAMA_VOCAB_TYPE_SPM or merges
        return said == "true" or (kind == llama_cpp.LLAMA_VOCAB_TYPE_UGM and merges)

    def _read_special_tokens(self) -> Iterator[SpecialToken]:
        special = llama_cpp.LLAMA_TOKEN_ATTR_CONTROL | llama_cpp.LLAMA_TOKEN_ATTR_UNKNOWN
        always = llama_cpp.LLAMA_TOKEN_ATTR_USER_DEFINED
        for token in range(self.num_vocab):
            attributes = llama_cpp.llama_vocab_get_attr(self._vocab, token)
            if attributes & (special | always):
                yield SpecialToken(
                    token=token,
                    text=llama_cpp.llama_vocab_get_text(self._vocab, token),
                    always=not attributes & special,
                    strips_left=bool(attributes & llama_cpp.LLAMA_TOKEN_ATTR_LSTRIP),
                    strips_right=bool(attributes & llama_cpp.LLAMA_TOKEN_ATTR_RSTRIP),
                )

    def piece(self, token: int) -> bytes:
        """The bytes a token stands for; empty for control tokens, and often only a part
        of a character.
        """
        known = self._pieces.get(token)
        if known is None:
            if len(self._pieces) >= _MAX_PIECES:
                self._pieces.clear()
            known = self._pieces[token] = self._read_piece(token, special=False)
        return known

    def dry_sampler(
        self,
        multiplier: float,
        base: float,
        allowed_length: int,
        last_n: int,
        *,
        breakers: Sequence[str],
    ) -> ctypes.c_void_p:
        """llama.cpp's DRY sampler; whoever adds it to a chain frees it with that.

        Looking for the breakers in a vocabulary of 128k takes 9 ms for each, so some
        samplers are kept to be copied.
        """
        key = (multiplier, base, allowed_length, last_n, tuple(breakers))
        if key not in self._dry_samplers:
            if len(self._dry_samplers) >= _MAX_DRY_SAMPLERS:
                llama_cpp.llama_sampler_free(self._dry_samplers.pop(next(iter(self._dry_samplers))))
            texts = (ctypes.c_char_p * len(breakers))(*(text.encode("utf-8") for text in breakers))
            self._dry_samplers[key] = llama_cpp.llama_sampler_init_dry(
                self._vocab, multiplier, base, allowed_length, last_n, texts, len(breakers)
            )
        copy: ctypes.c_void_p = llama_cpp.llama_sampler_clone(self._dry_samplers[key])
        return copy

    def infill_sampler(self) -> ctypes.c_void_p:
        """llama.cpp's: tokens that begin alike count together, and an end of the text
        is favoured.
        """
        sampler: ctypes.c_void_p = llama_cpp.llama_sampler_init_infill(self._vocab)
        return sampler

    def longest_piece_bytes(self) -> int:
        """Length of the longest token's text, special tokens included."""
        return max(len(self._read_piece(token, special=True)) for token in range(self.num_vocab))

    def text_of(self, token: int | None) -> str:
        """A special token as it is written, such as `<s>`, and a token of no text by its
        name; empty for None, and for what is no token.
        """
        if token is None or not 0 <= token < self.num_vocab:
            return ""
        text: bytes = self._read_piece(token, special=True)
        text = text or llama_cpp.llama_vocab_get_text(self._vocab, token)
        return text.decode("utf-8", errors="replace")

    def written(self, token: int) -> bytes:
        """As `piece`, and of a special token its name."""
        return self.piece(token) or self._read_piece(token, special=True)

    def begins_text(self, token: int) -> bool:
        """Whether what follows `token` is tokenized as a text of its own."""
        own = llama_cpp.LLAMA_TOKEN_ATTR_CONTROL | llama_cpp.LLAMA_TOKEN_ATTR_USER_DEFINED
        if self._kind == llama_cpp.LLAMA_VOCAB_TYPE_SPM:  # elsewhere it stands for characters
            own |= llama_cpp.LLAMA_TOKEN_ATTR_UNKNOWN
        return bool(llama_cpp.llama_vocab_get_attr(self._vocab, token) & own)

    def read_piece(self, token: int) -> bytes:
        """As `piece`, for whoever asks for each token once."""
        return self._read_piece(token, special=False)

    def _read_piece(self, token: int, *, special: bool) -> bytes:
        size = _USUAL_PIECE_BYTES
        assert 0 <= token < self.num_vocab, "llama.cpp would abort"
        while True:  # a buffer of its own: several threads ask
            buffer = ctypes.create_string_buffer(size)
            count = llama_cpp.llama_token_to_piece(self._vocab, token, buffer, size, 0, special)
            if count >= 0:
                return ctypes.string_at(buffer, count)
            size = -count

"""The dimensions of a model that decide its memory, read from a GGUF header.

Knows no bytes and no machine.

Keys: ggml docs/gguf.md and llama.cpp src/llama-model.cpp (`load_hparams`). Where an
architecture keeps less than a full KV cache in a way that is not known here
(`_PERIODS`), the full one is assumed.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from appliance.errors import BadModelFile
from appliance.fit.plan.recurrent import NO_STATE, StateShape, is_state_alone, read_state
from appliance.protocol.draft_heads import may_have_heads
from appliance.store.gguf_header import GgufHeader, Tensor
from appliance.store.gguf_values import bad_file

_MAX_LAYERS = 4096  # LLAMA_MAX_LAYERS is 512 today
_MAX_DIM = 1 << 24
_GEMMA3N_KEEPING = 20  # layers with a KV cache of their own (llama.cpp src/models/gemma3n.cpp)
# Of so many layers the last one sees all tokens, where the file says nothing else.
_PERIODS = {"gemma2": 2, "gemma3": 6, "gemma3n": 5, "gpt-oss": 2, "cohere2": 4, "olmo2": 4}
_PATTERN_IN_FILE = frozenset(("gemma4",))  # whose file always says it
_WINDOW_IN_ALL = frozenset(("lfm2", "lfm2moe"))  # that have KV cells


@dataclass(frozen=True, kw_only=True)
class ModelShape:
    """A model's dimensions; widths are numbers of values per token."""

    train_ctx: int  # tokens
    embedding: int  # width
    # Width of all feed-forward values that are alive at once: for a mixture of experts,
    # those of the experts used per token and of the shared ones.
    feed_forward: int
    experts_out: int  # width of the experts' results before they are added up; 0 without
    num_heads: int
    num_kv_heads: tuple[int, ...]  # one entry per layer; 0 where it has no KV cells
    key_length: int  # values per head
    value_length: int  # values per head
    num_vocab: int
    num_merges: int
    state: StateShape = NO_STATE
    per_layer: int = 0  # width of all layers' own embeddings of a token together
    window: int = 0  # tokens that some layers look back at
    slides: tuple[bool, ...] = ()  # whether that is this layer's; empty: none's

    @property
    def attention(self) -> int:
        return self.num_heads * max(self.key_length, self.value_length)

    @property
    def max_kv_width(self) -> int:
        return max(self.num_kv_heads) * max(self.key_length, self.value_length)


def read_shape(header: GgufHeader) -> ModelShape:
    """Raises `BadModelFile` where a dimension is missing or absurd."""
    arch = header.architecture
    num_layers = _bounded(header, f"{arch}.block_count", _MAX_LAYERS)
    embedding = _bounded(header, f"{arch}.embedding_length", _MAX_DIM)
    heads = _per_layer(header, f"{arch}.attention.head_count", num_layers, None)
    num_heads = max(heads)
    if num_heads == 0 and not is_state_alone(arch):
        raise BadModelFile(
            f"{header.path} is a model without attention heads ({arch}), which is not supported "
            "yet. Choose another model."
        )
    num_kv_heads = _per_layer(header, f"{arch}.attention.head_count_kv", num_layers, num_heads)
    if max(num_kv_heads) > num_heads:
        raise bad_file(
            header.path, f"it has {max(num_kv_heads)} KV heads for {num_heads} attention heads"
        )
    key_length = value_length = 0
    if num_heads:
        head_size = embedding // num_heads
        key_length = _bounded(header, f"{arch}.attention.key_length", _MAX_DIM, head_size)
        value_length = _bounded(header, f"{arch}.attention.value_length", _MAX_DIM, head_size)
    if header.integer(f"{arch}.rope.dimension_count", 0) > key_length:
        raise bad_file(header.path, f"it rotates more than the {key_length} values of a head")
    experts_used = header.integer(f"{arch}.expert_used_count", 0)
    feed_forwards = _per_layer(header, f"{arch}.feed_forward_length", num_layers, 0)
    num_computed = num_layers - num_head_layers(header)
    state = read_state(header, num_kv_heads[:num_computed], feed_forwards)
    window, slides = _window(header, num_layers)
    return ModelShape(
        train_ctx=_bounded(header, f"{arch}.context_length", _MAX_DIM),
        embedding=embedding,
        feed_forward=_feed_forward(header, arch, num_layers, experts_used),
        experts_out=min(experts_used, _MAX_LAYERS) * embedding,
        num_heads=num_heads,
        num_kv_heads=_without_shared(header, arch, _cell_heads(header, num_kv_heads, state)),
        key_length=key_length,
        value_length=value_length,
        num_vocab=_bounded(
            header,
            f"{arch}.vocab_size",
            _MAX_DIM,
            header.array_length("tokenizer.ggml.tokens") or None,
        ),
        num_merges=header.array_length("tokenizer.ggml.merges"),
        state=state,
        per_layer=_per_layer_width(header),
        window=window,
        slides=slides,
    )


def _cell_heads(
    header: GgufHeader, num_kv_heads: tuple[int, ...], state: StateShape
) -> tuple[int, ...]:
    """Of the layers that have KV cells: a state takes their place, but in Falcon-H1, and
    layers that only draft have theirs elsewhere.
    """
    if header.architecture == "falcon-h1":
        return num_kv_heads
    num_computed = len(num_kv_heads) - num_head_layers(header)
    return tuple(
        0 if at in state.layers or at >= num_computed else heads
        for at, heads in enumerate(num_kv_heads)
    )


def num_head_layers(header: GgufHeader) -> int:
    """The last ones of the file, which only draft; 0 where it has none that can."""
    arch = header.architecture
    return header.integer(f"{arch}.nextn_predict_layers", 0) if may_have_heads(arch) else 0


def can_draft_itself(header: GgufHeader) -> bool:
    """Whether llama.cpp can draft with the file's own heads; of more layers than one it
    cannot.
    """
    return num_head_layers(header) == 1


def head_tensors(header: GgufHeader) -> Iterable[Tensor]:
    """Those that are loaded only where the heads draft."""
    first = header.integer(f"{header.architecture}.block_count", 0) - num_head_layers(header)
    names = tuple(f"blk.{first + at}." for at in range(num_head_layers(header)))
    return (tensor for tensor in header.tensors if tensor.name.startswith(names))


def _without_shared(
    header: GgufHeader, arch: str, num_kv_heads: tuple[int, ...]
) -> tuple[int, ...]:
    """The last layers of some models attend to what earlier ones have kept."""
    num_shared = header.integer(f"{arch}.attention.shared_kv_layers", 0)
    if arch == "gemma3n":  # llama.cpp reads no number of it
        num_shared = len(num_kv_heads) - _GEMMA3N_KEEPING
    num_keeping = len(num_kv_heads) - max(num_shared, 0)
    if num_keeping < 1:
        raise bad_file(header.path, f"all of its layers share their KV cache ({num_shared})")
    return num_kv_heads[:num_keeping] + (0,) * (len(num_kv_heads) - num_keeping)


def _per_layer_width(header: GgufHeader) -> int:
    """From the table's own rows."""
    tables = (t for t in header.tensors if t.name == "per_layer_token_embd.weight")
    return max((min(table.shape[0], _MAX_DIM) for table in tables), default=0)


def _window(header: GgufHeader, num_layers: int) -> tuple[int, tuple[bool, ...]]:
    """Its tokens, and whether each layer has it; 0 where none does (llama-model.cpp,
    `load_swa_pattern`).
    """
    arch = header.architecture
    window = header.integer(f"{arch}.attention.sliding_window", 0)
    key = f"{arch}.attention.sliding_window_pattern"
    if not 0 < window <= _MAX_DIM or arch not in {*_PERIODS, *_PATTERN_IN_FILE, *_WINDOW_IN_ALL}:
        return 0, ()
    if arch in _WINDOW_IN_ALL:
        slides = (True,) * num_layers
    elif header.array_length(key):
        slides = tuple(each != 0 for each in header.integers(key, num_layers))
    else:
        period = header.integer(key, _PERIODS.get(arch, 1))
        slides = tuple(period == 0 or at % period < period - 1 for at in range(num_layers))
    return (window, slides) if any(slides) else (0, ())


def _feed_forward(header: GgufHeader, arch: str, num_layers: int, experts_used: int) -> int:
    dense = max(_per_layer(header, f"{arch}.feed_forward_length", num_layers, 0))
    expert = header.integer(f"{arch}.expert_feed_forward_length", 0) or (
        dense if experts_used else 0
    )
    shared = header.integer(f"{arch}.expert_shared_feed_forward_length", 0)
    return min(max(dense, expert * experts_used + shared), _MAX_DIM)


def _bounded(header: GgufHeader, key: str, maximum: int, default: int | None = None) -> int:
    value = header.integer(key, default)
    if not 0 < value <= maximum:
        raise bad_file(header.path, f"its key {key} is {value}")
    return value


def _per_layer(
    header: GgufHeader, key: str, num_layers: int, default: int | None
) -> tuple[int, ...]:
    values = header.integers(key, num_layers, default)
    if not all(0 <= value <= _MAX_DIM for value in values):
        raise bad_file(header.path, f"a value of its key {key} is not between 0 and {_MAX_DIM}")
    return values

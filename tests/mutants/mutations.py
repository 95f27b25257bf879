"""Faults by chance: in a file's bytes, its metadata, its tensor table, its tensors' data.

Knows no process, and not what becomes of a file.
"""

from __future__ import annotations

import copy
import random
import struct
from collections.abc import Callable

from appliance.store.ggml_types import TYPES_BY_ID
from tests.mutants.gguf_parts import ARRAY, SCALARS, STRING, Key, Parts, TensorPart, text

_LARGE = [2**7, 2**8, 2**15, 2**16, 2**31 - 1, 2**31, 2**32 - 1, 2**32, 2**62, 2**63, 2**64 - 1]
_INTEGERS = [0, 1, 2, 3, 7, 31, 32, 33, 64, 255, 511, 512, 513, 4096, *_LARGE]
_FLOATS = [0.0, -0.0, 1.0, -1.0, 1e-30, 1e30, 3.4e38, float("inf"), float("-inf"), float("nan")]
_TEXTS = [b"", b"\0", b"a", b"\xff\xfe", b"llama", b"{{ 1/0 }}", b"{% for a in b %}", b"x" * 70000]
_TEXTS += [b"%s%n", b"../../etc/passwd", "é".encode() * 99, b"{{ x }}" * 999, b"gpt2", b"default"]
_ARCHITECTURES = [
    *(b"llama", b"llama4", b"falcon", b"grok", b"gpt2", b"gptj", b"gptneox", b"mpt", b"baichuan"),
    *(b"starcoder", b"refact", b"bert", b"nomic-bert", b"jina-bert-v2", b"bloom", b"stablelm"),
    *(b"qwen", b"qwen2", b"qwen2moe", b"qwen2vl", b"qwen3", b"qwen3moe", b"qwen3next", b"phi2"),
    *(b"phi3", b"phimoe", b"plamo", b"plamo2", b"gemma", b"gemma2", b"gemma3", b"gemma3n"),
    *(
        b"starcoder2",
        b"mamba",
        b"mamba2",
        b"jamba",
        b"falcon-h1",
        b"command-r",
        b"cohere2",
        b"dbrx",
    ),
    *(b"olmo", b"olmo2", b"openelm", b"arctic", b"deepseek", b"deepseek2", b"chatglm", b"glm4"),
    *(b"bitnet", b"t5", b"t5encoder", b"jais", b"nemotron", b"exaone", b"rwkv6", b"rwkv7"),
    *(b"granite", b"granitehybrid", b"chameleon", b"wavtokenizer-dec", b"lfm2", b"smollm3"),
    *(b"gpt-oss", b"minicpm3", b"hunyuan-moe", b"dots1", b"bailingmoe", b"ernie4_5", b"clip"),
]
_MOST_TENSOR_BYTES = 8 << 20  # of one that grows

Mutation = Callable[[Parts, random.Random], None]


def mutant(source: Parts, chance: random.Random) -> tuple[str, bytes]:
    """(what was done, the file)."""
    parts = copy.deepcopy(source)
    names = []
    for _ in range(chance.choice([1, 1, 1, 1, 2, 2, 3, 5])):
        name = chance.choice(_WEIGHTED)
        MUTATIONS[name](parts, chance)
        names.append(name)
    return "+".join(names), parts.written()


# --- the file as bytes ----------------------------------------------------------------


def _header_bytes(parts: Parts, chance: random.Random) -> None:
    end = len(parts.header())
    for _ in range(chance.randint(1, 8)):
        parts.edits.append((chance.randrange(end), chance.randbytes(1)))


def _wide_bytes(parts: Parts, chance: random.Random) -> None:
    at = chance.randrange(len(parts.header()) - 8)
    form = chance.choice(["<Q", "<I"])
    most = 1 << 8 * struct.calcsize(form)
    parts.edits.append((at, struct.pack(form, chance.choice(_INTEGERS) % most)))


def _counts(parts: Parts, chance: random.Random) -> None:
    name = chance.choice(["version", "num_keys", "num_tensors"])
    if name == "version":
        parts.version = chance.choice([0, 1, 2, 4, 3 << 24])
        return
    real = len(parts.keys if name == "num_keys" else parts.tensors)
    setattr(parts, name, chance.choice([0, real - 1, real + 1, *_LARGE]))


def _length(parts: Parts, chance: random.Random) -> None:
    if chance.random() < 0.2:
        parts.tail = chance.randbytes(chance.randrange(5000))
        return
    size = len(parts.written())
    end = len(parts.header())
    parts.length = chance.choice(
        [chance.randrange(end), end, chance.randrange(size), size - chance.randint(1, 40)]
    )


# --- metadata -------------------------------------------------------------------------


def _any_key(parts: Parts, chance: random.Random) -> Key:
    """Mostly one that means something to the model's shape."""
    own = [key for key in parts.keys if key.name.startswith(parts.architecture + b".")]
    if own and chance.random() < 0.6:
        return chance.choice(own)
    return chance.choice(parts.keys) if parts.keys else Key(b"a", STRING, text(b"b"))


def _number(parts: Parts, chance: random.Random) -> None:
    numbers = [key for key in parts.keys if key.number is not None]
    own = [key for key in numbers if key.name.startswith(parts.architecture + b".")]
    if not numbers:
        return
    key = chance.choice(own if own and chance.random() < 0.8 else numbers)
    key.data = _other_number(SCALARS[key.type_id], key.number or 0, chance)


def _other_number(form: str, value: float, chance: random.Random) -> bytes:
    if form in "fd":
        near = [value * 2, value / 2, -value, value + 1]
        return struct.pack(f"<{form}", chance.choice([*_FLOATS, *near]))
    number = int(value)
    near_by = [number + 1, number - 1, number * 2, number // 2, number * 3, -number, number + 256]
    chosen = chance.choice(near_by) if chance.random() < 0.6 else chance.choice(_INTEGERS)
    bits = 8 * struct.calcsize(form)
    return (chosen % (1 << bits)).to_bytes(bits // 8, "little")


def _key_type(parts: Parts, chance: random.Random) -> None:
    key = _any_key(parts, chance)
    key.type_id = chance.choice([*SCALARS, STRING, ARRAY, 13, 255])
    if key.type_id in SCALARS:
        key.data = _other_number(SCALARS[key.type_id], chance.choice([0, 1, 32]), chance)
    elif key.type_id == STRING:
        key.data = text(chance.choice(_TEXTS))
    elif key.type_id == ARRAY:
        key.data = _array(chance)


def _array(chance: random.Random) -> bytes:
    inner = chance.choice([*SCALARS, STRING])
    count = chance.choice([0, 1, 2, 4, 64, 512, 600])
    one = text(b"a") if inner == STRING else bytes(struct.calcsize(SCALARS[inner]))
    if inner != STRING and chance.random() < 0.5:
        one = _other_number(SCALARS[inner], 4, chance)
    return struct.pack("<IQ", inner, count) + one * count


def _key_gone(parts: Parts, chance: random.Random) -> None:
    if parts.keys:
        parts.keys.remove(_any_key(parts, chance))


def _key_name(parts: Parts, chance: random.Random) -> None:
    key = _any_key(parts, chance)
    names = [b"", key.name + b"x", key.name[:-1], chance.choice(parts.keys or [key]).name]
    key.name = chance.choice([*names, b"x" * 66000, b"\xff" * 9])


def _key_text(parts: Parts, chance: random.Random) -> None:
    texts = [key for key in parts.keys if key.type_id == STRING]
    if texts:
        chance.choice(texts).data = text(chance.choice(_TEXTS))


def _known_key(parts: Parts, chance: random.Random) -> None:
    """A key that llama.cpp reads and this file did not have."""
    name, form = chance.choice(_KNOWN_KEYS)
    key = Key(parts.architecture + name, form, b"")
    if form in SCALARS:
        key.data = _other_number(SCALARS[form], chance.choice([0, 1, 4]), chance)
    elif form == ARRAY:
        key.data = _array(chance)
    else:
        key.data = text(chance.choice([*_TEXTS, b"yarn", b"linear", b"longrope", b"none"]))
    parts.keys = [*(other for other in parts.keys if other.name != key.name), key]


_KNOWN_KEYS = [
    *((b".attention.sliding_window", 4), (b".attention.sliding_window_pattern", ARRAY)),
    *((b".attention.key_length", 4), (b".attention.value_length", 4), (b".expert_count", 4)),
    *((b".expert_used_count", 4), (b".expert_shared_count", 4), (b".expert_group_count", 4)),
    *((b".rope.dimension_count", 4), (b".rope.dimension_sections", ARRAY), (b".vocab_size", 4)),
    *((b".rope.scaling.type", STRING), (b".rope.scaling.factor", 6), (b".rope.freq_base", 6)),
    *((b".rope.scaling.original_context_length", 4), (b".attention.head_count_kv", ARRAY)),
    *((b".attention.head_count", ARRAY), (b".feed_forward_length", ARRAY), (b".logit_scale", 6)),
    *((b".attention.causal", 7), (b".pooling_type", 4), (b".attn_logit_softcapping", 6)),
    *((b".attention.group_norm_groups", 4), (b".ssm.state_size", 4), (b".ssm.conv_kernel", 4)),
    *((b".leading_dense_block_count", 4), (b".attention.layer_norm_epsilon", 6)),
    *((b".nextn_predict_layers", 4), (b".classifier.output_labels", ARRAY), (b".use_alibi", 7)),
    *((b".attention.max_alibi_bias", 6), (b".attention.clamp_kqv", 6), (b".embedding_scale", 6)),
]


def _array_value(parts: Parts, chance: random.Random) -> None:
    arrays = [key for key in parts.keys if key.type_id == ARRAY and len(key.data) > 12]
    if not arrays:
        return
    key = chance.choice(arrays)
    inner, count = struct.unpack_from("<IQ", key.data)
    if inner in SCALARS and count:
        size = struct.calcsize(SCALARS[inner])
        for _ in range(chance.choice([1, 1, 20])):
            at = 12 + size * chance.randrange(count)
            value = _other_number(SCALARS[inner], 1, chance)
            key.data = key.data[:at] + value + key.data[at + size :]
    else:
        at = chance.randrange(12, len(key.data))
        key.data = key.data[:at] + chance.randbytes(1) + key.data[at + 1 :]


def _array_length(parts: Parts, chance: random.Random) -> None:
    """Fewer values, of those whose size is fixed, or another count."""
    arrays = [key for key in parts.keys if key.type_id == ARRAY]
    if not arrays:
        return
    key = chance.choice(arrays)
    inner, count = struct.unpack_from("<IQ", key.data)
    if inner in SCALARS and chance.random() < 0.8:
        size = struct.calcsize(SCALARS[inner])
        kept = chance.choice([0, 1, count // 2, max(count - 1, 0)])
        key.data = struct.pack("<IQ", inner, kept) + key.data[12 : 12 + size * kept]
    else:
        key.data = struct.pack("<IQ", inner, chance.choice(_INTEGERS)) + key.data[12:]


def _architecture(parts: Parts, chance: random.Random) -> None:
    """Another one, mostly with its keys."""
    old, new = parts.architecture, chance.choice(_ARCHITECTURES)
    key = parts.key(b"general.architecture")
    if key is None:
        return
    key.data = text(new)
    if chance.random() < 0.9:
        for other in parts.keys:
            if other.name.startswith(old + b"."):
                other.name = new + other.name[len(old) :]


# --- the tensor table -----------------------------------------------------------------


def _tensor_gone(parts: Parts, chance: random.Random) -> None:
    if parts.tensors:
        parts.tensors.remove(chance.choice(parts.tensors))


def _tensor_name(parts: Parts, chance: random.Random) -> None:
    if parts.tensors:
        tensor, other = chance.choice(parts.tensors), chance.choice(parts.tensors)
        moved = tensor.name.replace(b"blk.0", b"blk.7")
        names = [other.name, moved, tensor.name + b"x", b"", b"x" * 70, b"rope_freqs.weight"]
        tensor.name = chance.choice(names)


def _tensors_swapped(parts: Parts, chance: random.Random) -> None:
    """Two whose names change places: shapes and types that are not theirs."""
    if parts.tensors:
        one, two = chance.choice(parts.tensors), chance.choice(parts.tensors)
        one.name, two.name = two.name, one.name


def _tensor_order(parts: Parts, chance: random.Random) -> None:
    chance.shuffle(parts.tensors)


def _tensor_shape(parts: Parts, chance: random.Random) -> None:
    """Its data follow, mostly."""
    tensor = _any_tensor(parts, chance)
    if tensor is None:
        return
    shape = tensor.shape or [1]
    at = chance.randrange(len(shape))
    what = chance.random()
    if what < 0.5:
        near = [shape[at] + 1, shape[at] - 1, shape[at] * 2, shape[at] // 2, shape[at] + 32, 0, 1]
        shape[at] = max(0, chance.choice(near))
    elif what < 0.65:
        shape.reverse()
    elif what < 0.8:
        shape.insert(at, chance.choice([1, 1, 2, 0]))
    elif what < 0.9:
        del shape[at]
    else:
        shape[at] = chance.choice(_INTEGERS)
    tensor.shape = shape
    if chance.random() < 0.9:
        _refit(tensor, chance)


def _tensor_type(parts: Parts, chance: random.Random) -> None:
    for _ in range(chance.choice([1, 1, 3])):
        tensor = _any_tensor(parts, chance)
        if tensor is not None:
            tensor.type_id = chance.choice([*TYPES_BY_ID, *TYPES_BY_ID, 4, 5, 99])
            if chance.random() < 0.95:
                _refit(tensor, chance)


def _tensor_offset(parts: Parts, chance: random.Random) -> None:
    tensor = _any_tensor(parts, chance)
    if tensor is not None:
        tensor.offset = chance.choice([0, 1, 32, len(tensor.data), *_LARGE])


def _tensor_twice(parts: Parts, chance: random.Random) -> None:
    tensor = _any_tensor(parts, chance)
    if tensor is not None:
        copied = copy.copy(tensor)
        extra = [
            tensor.name,
            b"extra",
            b"output.weight",
            b"rope_freqs.weight",
            b"blk.0.attn_q.bias",
        ]
        copied.name = chance.choice(extra)
        parts.tensors.append(copied)


def _any_tensor(parts: Parts, chance: random.Random) -> TensorPart | None:
    return chance.choice(parts.tensors) if parts.tensors else None


def _refit(tensor: TensorPart, chance: random.Random) -> None:
    """As many data as type and shape say, where that can be had."""
    wanted = tensor.num_bytes
    if wanted <= _MOST_TENSOR_BYTES:
        more = max(0, wanted - len(tensor.data))
        tensor.data = tensor.data[:wanted] + chance.randbytes(more)


# --- the tensors' data ----------------------------------------------------------------


def _data_bytes(parts: Parts, chance: random.Random) -> None:
    tensor = _any_tensor(parts, chance)
    if tensor is None or not tensor.data:
        return
    data = bytearray(tensor.data)
    for _ in range(chance.choice([1, 10, 1000])):
        data[chance.randrange(len(data))] = chance.getrandbits(8)
    tensor.data = bytes(data)


def _data_whole(parts: Parts, chance: random.Random) -> None:
    """Of one tensor, or of all: zeros, ones, infinities and NaNs of f16 and f32, noise."""
    one = _any_tensor(parts, chance)
    tensors = parts.tensors if one is None or chance.random() < 0.2 else [one]
    pattern = chance.choice(
        [
            b"\0",
            b"\xff",
            b"\x00\x7c",
            b"\x00\x7e",
            b"\0\0\x80\x7f",
            b"\0\0\xc0\x7f",
            b"\xff\x7b",
            b"",
        ]
    )
    for tensor in tensors:
        size = len(tensor.data)
        if not pattern:
            tensor.data = chance.randbytes(size)
        else:
            tensor.data = (pattern * (size // len(pattern) + 1))[:size]


MUTATIONS: dict[str, Mutation] = {
    "header bytes": _header_bytes,
    "wide bytes": _wide_bytes,
    "counts": _counts,
    "length": _length,
    "number": _number,
    "key type": _key_type,
    "key gone": _key_gone,
    "key name": _key_name,
    "key text": _key_text,
    "known key": _known_key,
    "array value": _array_value,
    "array length": _array_length,
    "architecture": _architecture,
    "tensor gone": _tensor_gone,
    "tensor name": _tensor_name,
    "tensors swapped": _tensors_swapped,
    "tensor order": _tensor_order,
    "tensor shape": _tensor_shape,
    "tensor type": _tensor_type,
    "tensor offset": _tensor_offset,
    "tensor twice": _tensor_twice,
    "data bytes": _data_bytes,
    "data whole": _data_whole,
}
# Those that native code is likely to see.
_DEEP = ("number", "known key", "array value", "architecture", "tensor type", "tensor shape")
_WEIGHTED = [
    *MUTATIONS,
    *_DEEP,
    *_DEEP,
    "data bytes",
    "data whole",
    "data whole",
    "tensors swapped",
]

"""The tokens with a role (begin, end, padding, ...)
and whether the tokenizer adds them.

Knows no vocabularies.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from convert.config import Config, read_optional_json, whole
from convert.errors import DamagedCheckpoint, UnsupportedModel

# Texts that end a turn, of which llama.cpp would otherwise pick whichever its hash map
# yields first.
END_OF_TURN = ("<|eot_id|>", "<|im_end|>", "<|end|>", "<end_of_turn>")
# Texts that end an answer for llama.cpp whatever the file says (`llama_vocab::impl::load`).
KNOWN_ENDS = {
    *END_OF_TURN, "<|return|>", "<|call|>", "<|flush|>", "<|calls|>", "<|endoftext|>", "</s>",
    "<|eom_id|>", "<EOT>", "_<EOT>", "[EOT]", "[EOS]", "<|end_of_text|>", "<end_of_utterance>",
    "<eos>", "<turn|>", "<|tool_response>", "<｜end▁of▁sentence｜>", "[e~[",
}  # fmt: skip
_FLAGS = {"add_bos_token", "add_eos_token"}
_ROLES = ("bos", "eos", "unk", "pad", "sep", "cls", "mask")


@dataclass(frozen=True, kw_only=True)
class SpecialTokens:
    """Token ids by role; None where the model has no such token."""

    bos: int | None
    eos: int | None
    unk: int | None
    pad: int | None
    sep: int | None
    cls: int | None
    mask: int | None
    eot: int | None
    eom: int | None  # a third one that ends an answer
    add_bos: bool
    add_eos: bool
    # tokenizer.json's own post-processor, not another file's flags, puts them there
    by_template: bool
    notes: tuple[str, ...]  # sentences on files that contradict each other

    def around(self, token_ids: list[int]) -> list[int]:
        """A text's tokens with what the tokenizer adds before and after."""
        prefix = [self.bos] if self.add_bos and self.bos is not None else []
        suffix = [self.eos] if self.add_eos and self.eos is not None else []
        return [*prefix, *token_ids, *suffix]


@dataclass(frozen=True)
class TokenizerFiles:
    """The small JSON files beside the weights, each empty where absent."""

    tokenizer: dict[str, Any]
    tokenizer_config: dict[str, Any]
    special_tokens_map: dict[str, Any]
    generation_config: dict[str, Any]

    @classmethod
    def read(cls, directory: Path) -> TokenizerFiles:
        return cls(
            tokenizer=read_optional_json(directory / "tokenizer.json"),
            tokenizer_config=read_optional_json(directory / "tokenizer_config.json"),
            special_tokens_map=read_optional_json(directory / "special_tokens_map.json"),
            generation_config=read_optional_json(directory / "generation_config.json"),
        )


def find_special_tokens(
    files: TokenizerFiles, config: Config, ids: Mapping[str, int], *, model: str, processor: Any
) -> SpecialTokens:
    """Who plays which role: the tokenizer's own files first, then
    generation_config.json, then config.json.

    `ids` maps texts to ids; `model` is llama.cpp's word for the tokenizer; `processor`
    is the reference tokenizer's `post_processor`, which says what goes around a text
    where no flag does.
    """
    found = {role: _find(role, files, config, ids) for role in _ROLES}
    if model == "bert":
        named = {
            role: ids.get(f"[{role.upper()}]") if found[role] is None else found[role]
            for role in _ROLES
        }
        # llama.cpp takes BOS for what begins a text
        found = named | {"bos": named["cls"], "eos": named["sep"]}
        _check_bert(found, processor, ids)
        added = (True, True)
        ends = _find_ends(files, config, found["eos"], ids)
    else:
        ends = _find_ends(files, config, found["eos"], ids)
        appended = _appended(processor, ids)
        if appended not in (None, found["eos"]):
            # llama.cpp appends EOS and nothing else; what ends an answer ends a turn then
            eot = ends.eot if found["eos"] is None else found["eos"]
            found["eos"] = appended
            return SpecialTokens(
                **found,
                eot=eot,
                eom=None if ends.eot == eot else ends.eot,
                add_bos=_added_around(files, found, processor, model == "llama", ids)[0],
                add_eos=True,
                by_template=not _FLAGS & files.tokenizer_config.keys(),
                notes=_contradiction(files, appended, ids),
            )
        added = _added_around(files, found, processor, model == "llama", ids)
    return SpecialTokens(
        **found,
        eot=ends.eot,
        eom=ends.eom,
        add_bos=added[0],
        add_eos=added[1],
        by_template=processor is not None
        and (model == "bert" or not _FLAGS & files.tokenizer_config.keys()),
        notes=ends.notes,
    )


def _appended(processor: Any, ids: Mapping[str, int]) -> int | None:
    """The one token that the post-processor puts after every text; None without one."""
    suffix = _template(processor, ids)[1]
    return suffix[0] if len(suffix) == 1 else None


def _contradiction(
    files: TokenizerFiles, appended: int | None, ids: Mapping[str, int]
) -> tuple[str, ...]:
    if files.tokenizer_config.get("add_eos_token") is not False:
        return ()
    text = next(text for text, token_id in ids.items() if token_id == appended)
    return (
        f"tokenizer_config.json says that nothing is appended (add_eos_token), but tokenizer.json "
        f"appends {text!r} to every text. tokenizer.json was followed.",
    )


def _find(role: str, files: TokenizerFiles, config: Config, ids: Mapping[str, int]) -> int | None:
    for source in (files.tokenizer_config, files.special_tokens_map):
        entry = source.get(f"{role}_token")
        text = entry.get("content") if isinstance(entry, dict) else entry
        if isinstance(text, str) and text in ids:
            return ids[text]
    by_id = _ids_of(role, files, config, len(ids))
    if by_id:
        return by_id[0]
    unknown = (files.tokenizer.get("model") or {}).get("unk_token") if role == "unk" else None
    return ids.get(unknown) if isinstance(unknown, str) else None


def _ids_of(role: str, files: TokenizerFiles, config: Config, num_tokens: int) -> list[int]:
    """The ids that generation_config.json and config.json give for `role`; an end may
    be a list of several.

    Ids outside the vocabulary (-1, or a padding token that was never added) mean that
    there is no such token.
    """
    found: list[int] = []
    for values in (files.generation_config, config.values):
        value = values.get(f"{role}_token_id")
        for token_id in map(whole, value if isinstance(value, list) else [value]):
            if type(token_id) is int and 0 <= token_id < num_tokens and token_id not in found:
                found.append(token_id)
    return found


@dataclass(frozen=True)
class _Ends:
    """What ends an answer beside EOS."""

    eot: int | None
    eom: int | None
    notes: tuple[str, ...]


def _find_ends(
    files: TokenizerFiles, config: Config, eos: int | None, ids: Mapping[str, int]
) -> _Ends:
    """Of several tokens that end an answer, those that llama.cpp is to heed beside `eos`:
    there is room for two, and others it knows by their texts.
    """
    ends = [eos, *_ids_of("eos", files, config, len(ids))]
    known = (ids[text] for text in END_OF_TURN if text in ids and ids[text] in ends)
    eot = next(known, next((end for end in ends if end != eos), None))
    texts = {token_id: text for text, token_id in ids.items()}
    others = [end for end in ends if end not in (eos, eot) and texts[end or 0] not in KNOWN_ENDS]
    if len(others) > 1 and eot == eos:  # which ends an answer in any case
        eot, *others = others
    if len(others) < 2:
        return _Ends(eot, others[0] if others else None, ())
    lost = ", ".join(repr(texts[end or 0]) for end in others[1:])
    note = (
        f"A GGUF has room for three tokens that end an answer. These end none any more: {lost}. "
        "Pass them as `stop` in requests."
    )
    return _Ends(eot, others[0], (note,))


def _check_bert(found: Mapping[str, int | None], processor: Any, ids: Mapping[str, int]) -> None:
    if found["cls"] is None or found["sep"] is None:
        raise DamagedCheckpoint(
            "The tokenizer must name both a cls_token and a sep_token, which go around every text."
        )
    around = _template(processor, ids)
    if around != ([found["cls"]], [found["sep"]]):
        raise UnsupportedModel(
            f"The tokenizer puts the tokens {around[0]} before and {around[1]} after every text; "
            f"llama.cpp puts [CLS] ({found['cls']}) and [SEP] ({found['sep']}) there."
        )


def _added_around(
    files: TokenizerFiles,
    found: Mapping[str, int | None],
    processor: Any,
    is_spm: bool,
    ids: Mapping[str, int],
) -> tuple[bool, bool]:
    """Whether a text gets BOS before and EOS after: by tokenizer_config.json's flags,
    else by the template.
    """
    bos, eos = found["bos"], found["eos"]
    prefix, suffix = _template(processor, ids)
    if prefix not in ([], [bos]) or suffix not in ([], [eos]):
        raise UnsupportedModel(
            f"The tokenizer puts the tokens {prefix} before and {suffix} after every text; "
            f"llama.cpp can only add BOS ({bos}) and EOS ({eos})."
        )
    add_bos = bool(prefix) or (is_spm and not files.tokenizer)
    add_eos = bool(suffix)
    flags = files.tokenizer_config
    if isinstance(flags.get("add_bos_token"), bool):
        add_bos = flags["add_bos_token"]
    if isinstance(flags.get("add_eos_token"), bool):
        add_eos = flags["add_eos_token"]
    if (add_bos and bos is None) or (add_eos and eos is None):
        raise DamagedCheckpoint(
            "tokenizer_config.json asks for a BOS or EOS token that the vocabulary does not have."
        )
    return add_bos, add_eos


def _template(processor: Any, ids: Mapping[str, int]) -> tuple[list[int | None], list[int | None]]:
    """The ids a post-processor puts before and after a single text."""
    match processor:
        case None | {"type": "ByteLevel"}:  # the latter trims offsets only
            return [], []
        case {"type": "Sequence", "processors": list(inner)}:
            steps = [_template(step, ids) for step in inner]
            return [i for prefix, _ in steps for i in prefix], [
                i for _, suffix in steps for i in suffix
            ]
        case {"type": "BertProcessing", "sep": [str(sep), _], "cls": [str(cls), _]}:
            return [ids.get(cls)], [ids.get(sep)]
        case {"type": "TemplateProcessing", "single": list(parts)}:
            middle = next((i for i, part in enumerate(parts) if "Sequence" in part), len(parts))
            names = [part.get("SpecialToken", {}).get("id") for part in parts]
            return [ids.get(name) for name in names[:middle]], [
                ids.get(name) for name in names[middle + 1 :]
            ]
        case _:
            kind = processor.get("type") if isinstance(processor, dict) else processor
            raise UnsupportedModel(f"The tokenizer's post-processor {kind!r} is not supported.")

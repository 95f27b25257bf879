"""How many tokens a model has, where config.json and the embedding do not agree.

Knows no family. Files that were padded to a round number, or cut, say the old number.
"""

from __future__ import annotations

from collections.abc import Sequence

from convert.config import Config, whole
from convert.safetensors_file import StoredTensor


def with_rows_of(
    embedding: StoredTensor | None, config: Config, sections: Sequence[str] = ()
) -> tuple[Config, tuple[str, ...]]:
    """`config` with as many tokens as the embedding has rows, and a note where it says another
    number. Where it says none, or the embedding is no matrix, it stays as it is. The number
    may be in a section, or in a section of that.
    """
    for at, key in enumerate(sections):
        if key in config:
            part, notes = with_rows_of(embedding, config.section(key), sections[at + 1 :])
            return Config(config.path, {**config.values, key: part.values}), notes
    said = whole(config.values.get("vocab_size"))
    if embedding is None or len(embedding.shape) != 2 or type(said) is not int:
        return config, ()
    rows = embedding.shape[0]
    if rows == said:
        return config, ()
    note = (
        f"config.json has a vocab_size of {said}, but the embedding has {rows} rows. The rows were "
        "followed."
    )
    return Config(config.path, {**config.values, "vocab_size": rows}), (note,)

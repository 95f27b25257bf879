"""Prompts of random words, of an exact length. Knows no server."""

from __future__ import annotations

import random

# Short enough to be one token each, with the space before it, in practically every
# vocabulary that knows English.
_SHORT_WORDS = (
    "the and for are but not you all any can had her was one our out day get has him his how "
    "man new now old see two way who boy did its let put say she too use big end far few got "
    "run set top try ask air arm art bad bag bed bit box car cut dog eat eye fit fly gas job "
    "key law lay leg lie lot low map men met mix oil pay per red sea sit six sky son sun ten "
    "tie"
)
_WORDS = _SHORT_WORDS.split()


def random_text(rng: random.Random, num_tokens: int) -> str:
    """So many words.

    From 8 on, no two texts begin alike: no server knows any of it already.
    """
    return "".join(f" {word}" for word in rng.choices(_WORDS, k=num_tokens))

"""What of the catalog fits, by a rule of sizes, and which chat model is the best."""

from __future__ import annotations

import pytest

from appliance.launch.offers import best_chat_model, need_bytes, offers
from appliance.store.known.hub_models import HubModel

GIB = 1 << 30


def model(name: str, parameters: int, *, kind: str = "chat", active: int | None = None) -> HubModel:
    """Four bits and eight bits a parameter."""
    return HubModel(
        name=name,
        repository=f"org/{name}",
        revision="main",
        kind=kind,
        licence="MIT",
        languages=("en",),
        parameters=parameters,
        active_parameters=parameters if active is None else active,
        ctx=None,
        sizes={"Q4_K_M": parameters // 2, "Q8_0": parameters},
    )


SMALL, LARGE = model("small", GIB), model("large", 16 * GIB)
SPARSE = model("sparse", 8 * GIB, active=GIB)
CODER = model("coder", 12 * GIB, kind="code")
ALL = (SMALL, LARGE, SPARSE, CODER)


@pytest.mark.parametrize(
    ("file_bytes", "need"),
    [(GIB // 2, GIB // 2 + (592 << 20)), (16 * GIB, 18 * GIB + (192 << 20))],
)
def test_the_rule_of_what_a_file_takes(file_bytes: int, need: int) -> None:
    assert need_bytes(file_bytes) == need


def test_the_best_quantization_that_fits_is_offered_else_the_smallest() -> None:
    found = offers(ALL, 10 * GIB, 16e9, lambda each: each is SMALL)

    assert [(each.model.name, each.quantization, each.fits, each.is_here) for each in found] == [
        ("small", "Q8_0", True, True),
        ("large", "Q4_K_M", True, False),
        ("sparse", "Q8_0", True, False),
        ("coder", "Q4_K_M", True, False),
    ]
    assert [each.need_bytes for each in found][:2] == [need_bytes(GIB), need_bytes(8 * GIB)]
    assert not offers(ALL, GIB // 2, None, lambda _: False)[0].fits


def test_only_active_parameters_are_read_for_a_token() -> None:
    speeds = {
        each.model.name: each.tokens_per_s
        for each in offers(ALL, 20 * GIB, 16 * GIB, lambda _: False)
    }
    assert speeds == {"small": 16.0, "large": 1.0, "sparse": 16.0, "coder": pytest.approx(4 / 3)}
    embedding = model("embedding", GIB, kind="embedding")
    [offer] = offers([embedding], 20 * GIB, 16 * GIB, lambda _: False)
    assert offer.tokens_per_s is None


@pytest.mark.parametrize(
    ("usable", "bandwidth", "here", "best"),
    [
        (20 * GIB, 200 * GIB, (), "large"),
        (20 * GIB, None, (), "large"),
        (20 * GIB, 16 * GIB, (), "sparse"),  # the large one is slower than people read
        (20 * GIB, 200 * GIB, ("small", "sparse", "coder"), "sparse"),
        (20 * GIB, GIB, (), "small"),  # none is quick: the fastest, the first of those
        (2 * GIB, 16 * GIB, (), "small"),
        (GIB // 2, 16 * GIB, (), None),
    ],
)
def test_the_best_chat_model(
    usable: int, bandwidth: float | None, here: tuple[str, ...], best: str | None
) -> None:
    found = best_chat_model(offers(ALL, usable, bandwidth, lambda each: each.name in here))

    assert (None if found is None else found.model.name) == best

"""The radix tree against the plainest model of shared cells:
a list of (token, owners) per cell.
"""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from appliance.engine.cache.prefix_tree import PrefixTree


class Cells:
    """Each id's cells as object identities: what llama.cpp's cache would hold."""

    def __init__(self) -> None:
        self.of: dict[int, list[tuple[int, object]]] = {}

    @property
    def num_used(self) -> int:
        return len({cell for path in self.of.values() for _, cell in path})

    def num_used_by(self, ids: list[int]) -> int:
        return len({cell for i in ids for _, cell in self.of[i]})

    def longest(self, tokens: list[int], most: int, ignoring: int | None = None) -> int:
        best = 0
        for path in (path for i, path in self.of.items() if i != ignoring):
            known = [token for token, _ in path]
            common = next(
                (n for n, (a, b) in enumerate(zip(known, tokens, strict=False)) if a != b), None
            )
            best = max(
                best, min(len(known), len(tokens), most) if common is None else min(common, most)
            )
        return best


ids = st.integers(0, 7)
few_tokens = st.lists(st.integers(0, 2), max_size=6)
steps = st.lists(
    st.tuples(st.sampled_from(["open", "extend", "close", "share"]), ids, few_tokens), max_size=60
)


@given(steps)
@settings(max_examples=300)
def test_cells_paths_and_matches_are_those_of_the_plain_model(
    plan: list[tuple[str, int, list[int]]],
) -> None:
    tree, cells = PrefixTree(), Cells()
    for kind, one, tokens in plan:
        if kind == "open" and one not in tree:
            tree.open(one)
            cells.of[one] = []
        elif kind == "extend" and one in tree and tokens:
            tree.extend(one, tokens)
            cells.of[one] = cells.of[one] + [(token, object()) for token in tokens]
        elif kind == "close" and one in tree:
            before = cells.num_used
            num_unshared = tree.num_unshared_tokens(one)
            tree.close(one)
            del cells.of[one]
            assert num_unshared == before - cells.num_used
        elif kind == "share" and one not in tree:
            match = tree.match(tokens, len(tokens))
            assert match.num_tokens == cells.longest(tokens, len(tokens))
            tree.open(one)
            cells.of[one] = []
            if match.source_id is not None:
                assert [t for t, _ in cells.of[match.source_id]][: match.num_tokens] == tokens[
                    : match.num_tokens
                ]
                tree.share(match.source_id, one, match.num_tokens)
                cells.of[one] = cells.of[match.source_id][: match.num_tokens]
        assert tree.num_cells == cells.num_used
        assert tree.num_cells_of([i for i in cells.of if i < 4]) == cells.num_used_by(
            [i for i in cells.of if i < 4]
        )
        assert tree.match(tokens, 5, ignoring=one).num_tokens == cells.longest(
            tokens, 5, ignoring=one
        )
        for i in cells.of:
            inner = [
                j for j, path in cells.of.items() if j != i and path == cells.of[i][: len(path)]
            ]
            assert sorted(tree.inner_ids(i)) == sorted(inner)
        assert all(tree.num_tokens(i) == len(path) for i, path in cells.of.items())


def test_a_prefix_is_found_as_far_as_it_agrees_and_as_far_as_asked() -> None:
    tree = PrefixTree()
    tree.open(1)
    tree.extend(1, [5, 6, 7, 8])
    assert tree.match([5, 6, 9], 3).num_tokens == 2
    assert tree.match([5, 6, 7, 8, 9], 3).num_tokens == 3
    assert tree.match([9], 1).source_id is None


def test_the_longer_of_two_paths_that_begin_alike_is_taken() -> None:
    tree = PrefixTree()
    for sequence_id, tokens in ((1, [5, 6, 1]), (2, [5, 6, 7, 8])):
        tree.open(sequence_id)
        tree.extend(sequence_id, tokens)  # side by side: nothing is shared
    assert tree.num_cells == 7
    match = tree.match([5, 6, 7, 9], 4)
    assert (match.num_tokens, match.source_id) == (3, 2)


def test_a_path_that_grew_in_many_small_turns_is_walked_as_one() -> None:
    """Each turn goes on from the last one's path, as typing does: without merging,
    thousands of nodes in a row.
    """
    tree = PrefixTree()
    tree.open(0)
    tree.extend(0, [1, 1])
    for turn in range(1, 3000):
        tree.open(turn)
        tree.share(turn - 1, turn, turn)  # all but the last token, so that the paths part there
        tree.extend(turn, [1, 2])
        tree.close(turn - 1)
    assert tree.match([1] * 5000, 5000).num_tokens == 3000
    assert tree.num_cells == 3001

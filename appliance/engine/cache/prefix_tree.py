"""Which tokens have KV cells, and which sequence ids share them:
a radix tree over token ids.

Knows no scheduling.

Every id, of a running sequence or of a kept prefix, is a path from the root: it has the
cells of all tokens on its path. Where paths agree they share nodes, as llama.cpp's
unified cache shares cells (`llama_memory_seq_cp`), so the sum of the nodes' tokens is
the number of cells in use. Two sequences may compute the same tokens side by side; then
two children of a node begin alike, as there are two sets of cells.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from collections.abc import Sequence as Seq
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Match:
    """The longest known prefix of some tokens."""

    num_tokens: int  # of it, which have cells
    source_id: int | None  # the sequence that has them; None where there are none


NO_MATCH = Match(0, None)


@dataclass(eq=False)
class _TreeNode:
    """Some tokens of one or more paths."""

    tokens: list[int]
    parent: _TreeNode | None
    children: list[_TreeNode] = field(default_factory=list)
    tips: dict[int, int] = field(default_factory=dict)  # ids that end here -> after how many tokens


class PrefixTree:
    """All cells in use. An id is known from `open` to `close`."""

    def __init__(self) -> None:
        self._root = _TreeNode([], None)
        self._tips: dict[int, _TreeNode] = {}
        self.num_cells = 0

    def __contains__(self, sequence_id: int) -> bool:
        return sequence_id in self._tips

    def open(self, sequence_id: int) -> None:
        """A new id without any cell."""
        assert sequence_id not in self._tips
        self._place(sequence_id, self._root, 0)

    def num_tokens(self, sequence_id: int) -> int:
        """How many tokens of the id have cells."""
        node = self._tips[sequence_id]
        return _start(node) + node.tips[sequence_id]

    def num_unshared_tokens(self, sequence_id: int) -> int:
        """How many cells would be free without this id."""
        node = self._tips[sequence_id]
        if node.children:
            return 0
        covered, others = (
            node.tips[sequence_id],
            [n for i, n in node.tips.items() if i != sequence_id],
        )
        num_free = covered - max(others, default=0)
        while not others and node.parent is not None and len(node.parent.children) == 1:
            node = node.parent
            others = list(node.tips.values())
            num_free += len(node.tokens) - max(others, default=0)
        return max(num_free, 0)

    def match(self, tokens: Seq[int], most: int, ignoring: int | None = None) -> Match:
        """The longest prefix of `tokens`, up to `most` of them, that has cells not only
        of the id `ignoring`.
        """
        node, offset, num_tokens = self._find(
            self._root, tokens, 0, min(most, len(tokens)), ignoring
        )
        return Match(num_tokens, None if num_tokens == 0 else _any_id(node, offset, ignoring))

    def inner_ids(self, sequence_id: int) -> list[int]:
        """The other ids whose whole path is a part of this one's: their cells are all
        cells of this id.
        """
        node = self._tips[sequence_id]
        most = node.tips[sequence_id]
        found = [i for i, covered in node.tips.items() if covered <= most and i != sequence_id]
        for ancestor in _ancestors(node):
            found.extend(ancestor.tips)
        return found

    def num_cells_of(self, sequence_ids: Iterable[int], and_of: Match = NO_MATCH) -> int:
        """The number of cells that at least one of the ids has,
        or that are a part of the match.
        """
        covered: dict[_TreeNode, int] = {}
        for sequence_id in sequence_ids:
            node = self._tips[sequence_id]
            _cover(covered, node, node.tips[sequence_id])
        if and_of.source_id is not None:
            _cover(covered, *self._at(and_of.source_id, and_of.num_tokens))
        return sum(covered.values())

    def share(self, source_id: int, target_id: int, num_tokens: int) -> None:
        """Gives an id without cells the first `num_tokens` of another one's."""
        assert self.num_tokens(target_id) == 0
        self._remove_tip(target_id)
        self._place(target_id, *self._at(source_id, num_tokens))

    def extend(self, sequence_id: int, tokens: Seq[int]) -> None:
        """The id got cells of its own for the tokens that follow."""
        node = self._tips[sequence_id]
        offset = node.tips[sequence_id]
        if offset < len(node.tokens):
            node = self._split(node, offset)
        if node is not self._root and not node.children and len(node.tips) == 1:
            node.tokens.extend(tokens)
            node.tips[sequence_id] = len(node.tokens)
        else:
            self._remove_tip(sequence_id)
            child = _TreeNode(list(tokens), node)
            node.children.append(child)
            self._place(sequence_id, child, len(child.tokens))
        self.num_cells += len(tokens)

    def close(self, sequence_id: int) -> None:
        """The id is gone, and with it the cells that nobody else has."""
        node = self._tips[sequence_id]
        self._remove_tip(sequence_id)
        self._prune(node)

    def _at(self, sequence_id: int, num_tokens: int) -> tuple[_TreeNode, int]:
        """The node of an id's path, and the offset in it,
        where `num_tokens` of the path end.
        """
        node = self._tips[sequence_id]
        start = _start(node)
        assert num_tokens <= start + node.tips[sequence_id]
        while start >= num_tokens and node.parent is not None:
            node = node.parent
            start -= len(node.tokens)
        return node, num_tokens - start

    def _place(self, sequence_id: int, node: _TreeNode, offset: int) -> None:
        node.tips[sequence_id] = offset
        self._tips[sequence_id] = node

    def _remove_tip(self, sequence_id: int) -> None:
        del self._tips.pop(sequence_id).tips[sequence_id]

    def _find(
        self, node: _TreeNode, tokens: Seq[int], at: int, most: int, ignoring: int | None
    ) -> tuple[_TreeNode, int, int]:
        """(node, tokens of it, tokens in all) of the longest match below `node`, which
        matches up to `at`.
        """
        best = (node, len(node.tokens), at)
        for child in node.children:
            num_common = min(
                _num_common(child.tokens, tokens, at, most), _num_covered(child, ignoring)
            )
            if num_common == 0:
                continue
            found = (child, num_common, at + num_common)
            if num_common == len(child.tokens):
                found = self._find(child, tokens, at + num_common, most, ignoring)
            if found[2] > best[2]:
                best = found
        return best

    def _split(self, node: _TreeNode, offset: int) -> _TreeNode:
        """Cuts a node in two after `offset` tokens and returns the upper one, which
        gets the tips that end there.
        """
        assert node.parent is not None
        assert 0 < offset < len(node.tokens)
        upper = _TreeNode(node.tokens[:offset], node.parent, [node])
        node.parent.children[node.parent.children.index(node)] = upper
        node.tokens = node.tokens[offset:]
        node.parent = upper
        tips, node.tips = node.tips, {}
        for sequence_id, covered in tips.items():
            if covered <= offset:
                self._place(sequence_id, upper, covered)
            else:
                self._place(sequence_id, node, covered - offset)
        return upper

    def _prune(self, node: _TreeNode) -> None:
        """Forgets the tokens at the end of a childless node that no id has any more,
        and empty nodes upwards.

        A node where no path ends or branches is made one with its child: so there are
        never more nodes than twice the ids, and no walk is deeper than that.
        """
        while node.parent is not None and not node.children:
            num_kept = max(node.tips.values(), default=0)
            self.num_cells -= len(node.tokens) - num_kept
            del node.tokens[num_kept:]
            if num_kept:
                return
            # ids that end at its beginning: the parent's end is the same place
            for sequence_id in list(node.tips):
                self._remove_tip(sequence_id)
                self._place(sequence_id, node.parent, len(node.parent.tokens))
            node.parent.children.remove(node)
            node = node.parent
        if node.parent is not None and not node.tips and len(node.children) == 1:
            self._merge(node)

    def _merge(self, node: _TreeNode) -> None:
        """Puts a node's tokens in front of its only child's."""
        assert node.parent is not None
        [child] = node.children
        for sequence_id, covered in child.tips.items():
            child.tips[sequence_id] = covered + len(node.tokens)
        child.tokens = node.tokens + child.tokens
        child.parent = node.parent
        node.parent.children[node.parent.children.index(node)] = child


def _start(node: _TreeNode) -> int:
    """The position of a node's first token."""
    return sum(len(ancestor.tokens) for ancestor in _ancestors(node))


def _ancestors(node: _TreeNode) -> Iterator[_TreeNode]:
    while node.parent is not None:
        node = node.parent
        yield node


def _cover(covered: dict[_TreeNode, int], node: _TreeNode, offset: int) -> None:
    """Marks a path down to `offset` tokens of `node`."""
    covered[node] = max(covered.get(node, 0), offset)
    for ancestor in _ancestors(node):
        covered[ancestor] = len(ancestor.tokens)


def _any_id(node: _TreeNode, offset: int, ignoring: int | None) -> int:
    """An id that has the first `offset` tokens of `node`: one that ends after them,
    here or further down.
    """
    while True:
        for sequence_id, covered in node.tips.items():
            if covered >= offset and sequence_id != ignoring:
                return sequence_id
        node, offset = next(child for child in node.children if _num_covered(child, ignoring)), 1


def _num_covered(node: _TreeNode, ignoring: int | None) -> int:
    """How many of the node's tokens an id other than `ignoring` has."""
    if ignoring is None or any(_num_covered(child, ignoring) for child in node.children):
        return len(node.tokens)
    return max((covered for i, covered in node.tips.items() if i != ignoring), default=0)


def _num_common(node_tokens: Seq[int], tokens: Seq[int], at: int, most: int) -> int:
    """How many of `node_tokens` agree with `tokens`
    from `at` on, without passing `most`.
    """
    limit = min(len(node_tokens), most - at)
    # mostly so for a node's children, and nothing is copied
    if limit <= 0 or node_tokens[0] != tokens[at]:
        return 0
    # the usual case, at the speed of C
    if list(node_tokens[:limit]) == list(tokens[at : at + limit]):
        return limit
    return next(n for n in range(limit) if node_tokens[n] != tokens[at + n])

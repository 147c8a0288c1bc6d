"""What goes into one forward pass: prefix trees of sequences, and packs of groups under a token budget."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

Group: TypeAlias = tuple[list[int], list[list[int]]]
"""A prompt and its completions, token ids."""


@dataclass(frozen=True)
class PrefixTree:
    """Sequences packed as the preorder of their prefix tree.

    Attributes:
        token_ids: token of each position.
        depths: its place in its sequences, from 0: the position id.
        last: the last position of its subtree. ``j`` is an ancestor of ``i`` exactly when ``j <= i <= last[j]``.
        paths: for each sequence, in the order given, its positions.
    """

    token_ids: list[int]
    depths: list[int]
    last: list[int]
    paths: list[list[int]]

    @classmethod
    def build(cls, sequences: Sequence[Sequence[int]], *, in_order: bool = False) -> PrefixTree:
        """Pack sequences; equal prefixes become one.

        Lexicographic order makes each sequence leave the tree at its common prefix with the one before it, so one
        pass with a stack suffices.

        Args:
            sequences: token ids.
            in_order: lay them out as they come; then only what a sequence begins like the one before it is shared.
        """
        token_ids: list[int] = []
        depths: list[int] = []
        last: list[int] = []
        paths: list[list[int]] = [[] for _ in sequences]
        path: list[int] = []
        order = range(len(sequences))
        for number in order if in_order else sorted(order, key=lambda n: tuple(sequences[n])):
            sequence = sequences[number]
            shared = 0
            while shared < min(len(path), len(sequence)) and token_ids[path[shared]] == sequence[shared]:
                shared += 1
            for position in path[shared:]:
                last[position] = len(token_ids) - 1  # its subtree ends before the new branch
            start = len(token_ids)
            token_ids.extend(sequence[shared:])
            depths.extend(range(shared, len(sequence)))
            last.extend([-1] * (len(sequence) - shared))
            path = path[:shared] + list(range(start, len(token_ids)))
            paths[number] = path
        for position in path:
            last[position] = len(token_ids) - 1
        return cls(token_ids, depths, last, paths)

    @property
    def is_chain(self) -> bool:
        """Whether it is one sequence without branches, for which plain causal attention is right."""
        return self.depths == list(range(len(self.depths)))


@dataclass
class Pack:
    """Groups that share one forward pass.

    Attributes:
        groups: prompts with completions; a group that does not fit one pack is in several, with its prompt in each.
        rows: place of each completion of ``groups`` in the order of all completions before packing.
        tokens: positions of the pass, an upper bound: beginnings that completions have in common count each time.
    """

    groups: list[Group] = field(default_factory=list)
    rows: list[int] = field(default_factory=list)
    tokens: int = 0


def plan_packs(
    groups: Sequence[Group],
    budget: int,
    *,
    shared: bool = True,
    quadratic: float = 0.0,
    most: int | None = None,
) -> list[Pack]:
    """Cuts a batch into forward passes of at most ``budget`` positions.

    A group whose prompt and completions exceed the budget is cut into parts, each with the prompt. Groups that begin
    alike become neighbours and share a pass while the budget allows it and it is no more work than apart: with dense
    attention, a pass over ``U`` positions costs ``U · (1 + quadratic · U)``, and what two unrelated groups compute of
    each other's attention is thrown away.

    Args:
        groups: prompts and completions.
        budget: positions of a pass; one completion with its prompt may exceed it.
        shared: count the prompt once a pass (a packed row); else once a completion, each padded to the longest, and
            never two prompts in a pass.
        quadratic: see above; 0 for attention that skips what is masked.
        most: at most so many groups in a pass.

    Returns:
        Packs, deterministic in the order and content of ``groups``; together they have every completion once.
    """
    pieces = [piece for number, start in _starts(groups) for piece in _pieces(groups[number], start, budget, shared)]
    packs: list[Pack] = []
    before: list[int] = []
    for piece in sorted(pieces, key=lambda item: item.groups[0][0]) if shared else pieces:
        prompt = piece.groups[0][0]
        if shared and packs:
            pack, fresh = packs[-1], piece.tokens - common_length(before, prompt)
            total = pack.tokens + fresh
            pays = _work(total, quadratic) <= _work(pack.tokens, quadratic) + _work(piece.tokens, quadratic)
            if total <= budget and pays and (most is None or len(pack.groups) < most):
                pack.groups += piece.groups
                pack.rows += piece.rows
                pack.tokens = total
                before = prompt
                continue
        packs.append(piece)
        before = prompt
    return packs


def pack_together(
    groups: Sequence[Group], sizes: Sequence[int], budget: int, shared: bool = True, most: int | None = None
) -> list[tuple[Pack, int]]:
    """Cuts a batch into forward passes of at most ``budget`` positions, runs of groups never apart.

    Args:
        groups: prompts and completions.
        sizes: how many consecutive groups belong together (the turns of an episode); they sum to all.
        budget: positions of a pass; one run may exceed it.
        shared: beginnings that neighbours of a run have in common count once (packed rows); else every group counts
            with its prompt.
        most: at most so many runs in a pass.

    Returns:
        Packs in the order of the groups, and how many runs each holds.
    """
    found: list[tuple[Pack, int]] = []
    place = row = 0
    for size in sizes:
        run = Pack()
        before: list[int] = []
        for prompt, completions in groups[place : place + size]:
            for completion in completions:
                sequence = [*prompt, *completion]
                run.tokens += len(sequence) - (common_length(before, sequence) if shared else 0)
                run.rows.append(row)
                before, row = sequence, row + 1
            run.groups.append((prompt, completions))
        place += size
        if found and found[-1][0].tokens + run.tokens <= budget and (most is None or found[-1][1] < most):
            pack, count = found[-1]
            pack.groups += run.groups
            pack.rows += run.rows
            pack.tokens += run.tokens
            found[-1] = (pack, count + 1)
        else:
            found.append((run, 1))
    return found


def positions_of(groups: Sequence[Group]) -> int:
    """Positions of one packed row of these groups; never more than what a pack of them says."""
    rows = [[*prompt, *completion] for prompt, completions in groups for completion in completions]
    return len(PrefixTree.build(rows).token_ids)


def common_length(left: Sequence[int], right: Sequence[int]) -> int:
    """How many tokens two sequences begin with in common."""
    limit = min(len(left), len(right))
    return next((place for place in range(limit) if left[place] != right[place]), limit)


def _starts(groups: Sequence[Group]) -> Iterator[tuple[int, int]]:
    """Number of each group, and the place of its first completion among all."""
    start = 0
    for number, (_, completions) in enumerate(groups):
        yield number, start
        start += len(completions)


def _pieces(group: Group, start: int, budget: int, shared: bool) -> Iterator[Pack]:
    prompt, completions = group
    piece = Pack()
    longest = 0
    for place, completion in enumerate(completions):
        longest = max(longest, len(completion))
        count = len(piece.rows) + 1
        tokens = (piece.tokens or len(prompt)) + len(completion) if shared else count * (len(prompt) + longest)
        if piece.rows and tokens > budget:
            yield piece
            piece, longest = Pack(), len(completion)
            tokens = len(prompt) + len(completion)
        if not piece.groups:
            piece.groups.append((prompt, []))
        piece.groups[0][1].append(completion)
        piece.rows.append(start + place)
        piece.tokens = tokens
    if piece.rows:
        yield piece


def _work(tokens: int, quadratic: float) -> float:
    return tokens * (1 + quadratic * tokens)

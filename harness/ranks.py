"""The processes of one training run: which one this is, and what they tell each other.

``torchrun`` starts them; :func:`torchrun_ranks` joins them. Everything that decides how a run goes on is known to all,
so that they take the same way; files are written by the first.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

T = TypeVar("T")


@dataclass(frozen=True)
class Ranks:
    """The processes of a run; by default there is one.

    Attributes:
        number: of this process, from 0.
        count: of all.
        group: over which they exchange values.
    """

    number: int = 0
    count: int = 1
    group: Any = None

    @property
    def lead(self) -> bool:
        """Whether this is the process that writes."""
        return self.number == 0

    def mine(self, items: Sequence[T]) -> list[T]:
        """This process's share: every ``count``-th."""
        return list(items[self.number :: self.count])

    def exchange(self, value: T) -> list[T]:
        """What every process gave, in their order; all must call it."""
        if self.count == 1:
            return [value]
        import torch.distributed as dist

        found: list[Any] = [None] * self.count
        dist.all_gather_object(found, value, group=self.group)
        return found

    def together(self, work: Callable[[], T]) -> list[T]:
        """Does ``work`` in every process and exchanges the results; what one raises, all raise."""
        found = self.exchange(_outcome(work))
        for _, error in found:
            if error is not None:
                raise error
        return [value for value, _ in found]  # type: ignore[misc]

    def once(self, work: Callable[[], T]) -> T:
        """Does ``work`` in the first process alone; all get its result, or raise what it raised."""
        return self.together(lambda: work() if self.lead else None)[0]  # type: ignore[return-value]


def _outcome(work: Callable[[], T]) -> tuple[T | None, Exception | None]:
    try:
        return work(), None
    except Exception as error:
        return None, error


@contextmanager
def torchrun_ranks() -> Iterator[Ranks]:
    """The processes that ``torchrun`` started, joined for a ``with`` block; one alone where it did not.

    With CUDA each process takes the device of its local number. Values are exchanged over gloo in any case.
    """
    count = int(os.environ.get("WORLD_SIZE", "1"))
    if count == 1 or "RANK" not in os.environ:
        yield Ranks()
        return
    import torch
    import torch.distributed as dist

    cuda = torch.cuda.is_available()
    if cuda:
        torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", "0")))
    dist.init_process_group("nccl" if cuda else "gloo")
    try:
        yield Ranks(dist.get_rank(), count, dist.new_group(backend="gloo"))
    finally:
        dist.destroy_process_group()

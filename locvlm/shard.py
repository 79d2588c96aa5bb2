"""One of the parts that a long job is cut into, each for a process of its own: "3/16"."""

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

Item = TypeVar("Item")


@dataclass(frozen=True, slots=True)
class Shard:
    """One of `count` parts of a job; `Shard(0, 1)` is all of it."""

    index: int
    count: int

    @classmethod
    def parse(cls, text: str) -> "Shard":
        """The shard written as "3/16": the fourth of sixteen.

        Raises:
            ValueError: for another form, or an index that is not below the count.
        """
        index, slash, count = text.partition("/")
        if not (slash and index.isdecimal() and count.isdecimal() and int(index) < int(count)):
            raise ValueError(f"a shard is INDEX/COUNT, counted from 0, such as 0/16 to 15/16; got {text!r}")
        return cls(int(index), int(count))

    def take(self, items: Sequence[Item]) -> Sequence[Item]:
        """This shard's part of the items, a run of them: all shards, one after another, give all items."""
        start, end = (len(items) * k // self.count for k in (self.index, self.index + 1))
        return items[start:end]

    def __str__(self) -> str:
        return f"{self.index}/{self.count}"


def shard_argument(text: str) -> Shard:
    """`Shard.parse` as a type of argparse, which then shows what is wrong."""
    try:
        return Shard.parse(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error

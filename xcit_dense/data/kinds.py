"""Kinds of faults of files, looked for in all files at once and told as one finding a kind."""

import os
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from multiprocessing.pool import ThreadPool
from typing import TypeVar

from tqdm import tqdm

from xcit_dense.errors import Finding

SHOWN = 3
_MOST_THREADS = 8  # each may hold a large image
Item = TypeVar("Item")
Result = TypeVar("Result")


@dataclass(frozen=True)
class Kind:
    """A fault that files may have.

    Attributes:
        what: what they are or have, after their number, as in "are missing".
        effect: what it does to training.
        remedy: what to do about it.
        is_wrong: whether training cannot go well with it.
    """

    what: str
    effect: str
    remedy: str
    is_wrong: bool = True


def look_at_all(look: Callable[[Item], Result], items: Sequence[Item], name: str) -> list[Result]:
    """Call a function that reads a file for each item, in threads, with progress on a terminal."""
    threads = min(_MOST_THREADS, len(os.sched_getaffinity(0)))
    with warnings.catch_warnings(), ThreadPool(threads) as pool:
        warnings.simplefilter("ignore")  # decoders warn of what is found here anyway
        results = pool.imap(look, items, chunksize=8)
        return list(tqdm(results, name, len(items), leave=False, unit="file", disable=None))


def findings_by_kind(found: Iterable[tuple[Kind, str]], total: int, noun: str) -> Iterator[Finding]:
    """One finding for each kind, what is wrong first, with the first places.

    Args:
        found: kinds, and where they were found.
        total: how many files were looked at.
        noun: what these are, as in "images".
    """
    places: dict[Kind, list[str]] = {}
    for kind, place in found:
        places.setdefault(kind, []).append(place)
    for kind in sorted(places, key=lambda kind: not kind.is_wrong):
        count = len(places[kind])
        shown = ", ".join(places[kind][:SHOWN])
        yield Finding(
            f"{count} of {total} {noun} {kind.what}, such as {shown}; {kind.effect}",
            kind.remedy,
            kind.is_wrong,
        )

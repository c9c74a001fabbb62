"""What went wrong, or was found, in words for the user."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace


class UserError(ValueError):
    """Something that a user can mend; the message names the value, what is allowed, the remedy.

    The commands end with it in one line, without a traceback.
    """


def in_one_line(error: BaseException) -> str:
    """The type of an error and the first line of its message; of a data process, what it met."""
    message = error.args[0] if isinstance(error, KeyError) and error.args else error
    lines = str(message).strip().splitlines()
    if lines and "DataLoader worker process" in lines[0]:  # its traceback follows, and ends so
        return lines[-1]
    return f"{type(error).__name__}: {lines[0] if lines else 'no message'}"


@dataclass(frozen=True)
class Finding:
    """Something that a user should know of a model or of data.

    Attributes:
        text: what was found, and where.
        remedy: what to do about it, if that is known.
        is_wrong: whether training or prediction cannot go well with it.
    """

    text: str
    remedy: str = ""
    is_wrong: bool = True

    def __str__(self) -> str:
        remedy = f"\n  remedy: {self.remedy}" if self.remedy else ""
        return f"{'wrong' if self.is_wrong else 'mind'}: {self.text}{remedy}"


def findings_by_kind(
    found: Iterable[tuple[Finding, object]], total: int, noun: str
) -> Iterator[Finding]:
    """One finding for each kind, with its number and its first places, what is wrong first.

    Args:
        found: kinds, whose text goes on after their number as "are missing" does, and places.
        total: how many things were looked at.
        noun: what these are, as in "images".
    """
    places: dict[Finding, list[object]] = {}
    for kind, place in found:
        places.setdefault(kind, []).append(place)
    for kind in sorted(places, key=lambda kind: not kind.is_wrong):
        count, shown = len(places[kind]), listed(places[kind])
        yield replace(kind, text=f"{count} of {total} {noun} {kind.text}: {shown}")


def counted(number: int, noun: str) -> str:
    """A number of things, as in "1 image", "2 images" and "0 classes"."""
    plural = f"{noun}es" if noun.endswith("s") else f"{noun}s"
    return f"{number} {noun if number == 1 else plural}"


def listed(values: Sequence[object], shown: int = 3) -> str:
    """The first values, and how many more there are."""
    more = f" and {len(values) - shown} more" if len(values) > shown else ""
    return ", ".join(map(str, values[:shown])) + more

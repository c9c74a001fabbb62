"""What went wrong, or was found, in words for the user."""

from dataclasses import dataclass


class UserError(ValueError):
    """Something that a user can mend; the message names the value, what is allowed, the remedy.

    The commands end with it in one line, without a traceback.
    """


def in_one_line(error: BaseException) -> str:
    """The type of an error and the first line of its message."""
    message = error.args[0] if isinstance(error, KeyError) and error.args else error
    lines = str(message).strip().splitlines()
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

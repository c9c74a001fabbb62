"""Something that is wrong, and the remedy."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Finding:
    """Something that a user should know of a model.

    Attributes:
        text: what was found, and where.
        remedy: what to do about it.
        is_wrong: whether training or prediction can not go well with it.
    """

    text: str
    remedy: str
    is_wrong: bool = True

    def __str__(self) -> str:
        return f"{'wrong' if self.is_wrong else 'mind'}: {self.text}\n  remedy: {self.remedy}"

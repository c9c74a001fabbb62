"""What is needed to run any model band by band: parts that are known, and padding."""

import torch.nn.functional as F
from torch import Tensor, nn

from xcit_dense.engine import Source
from xcit_dense.engine.weights import expect
from xcit_dense.errors import UserError


def expect_known(module: nn.Module, *kinds: type[nn.Module]) -> None:
    """See that a part of a model is an untouched one of these kinds.

    Raises:
        UserError: it is of another kind.
        NotAsBuilt: somebody has changed it.
    """
    if type(module) not in kinds:
        raise UserError(
            f"{type(module).__name__} cannot be run band by band, only "
            f"{', '.join(kind.__name__ for kind in kinds)} can; tiles take any (--mode tiles)"
        )
    expect(module, type(module))


class Padded:
    """An image with padding below and beside it, as data preprocessors give it.

    Args:
        source: the image.
        least: height and width with padding, if they are less.
        divisor: then height and width are padded to multiples of it.
        value: of the padding.
    """

    def __init__(self, source: Source, least: tuple[int, int], divisor: int, value: float) -> None:
        self._source, self._value = source, value
        self.height = max(least[0], -(-source.height // divisor) * divisor)
        self.width = max(least[1], -(-source.width // divisor) * divisor)

    def read(self, first: int, last: int) -> Tensor:
        """See :class:`Source`."""
        source = self._source
        top = min(first, source.height - 1)  # sources have no windows without rows
        rows = source.read(top, max(top + 1, min(last, source.height)))[:, first - top :]
        missing = (0, self.width - source.width, 0, last - first - rows.shape[1])
        return F.pad(rows, missing, value=self._value) if any(missing) else rows

    def valid(self, first: int, last: int) -> Tensor | None:
        """See :class:`Source`; padding is seen, as by the whole model."""
        source = self._source
        last_row = min(last, source.height)
        if not hasattr(source, "valid") or first >= last_row:
            return None
        valid = source.valid(first, last_row)
        missing = (0, self.width - source.width, 0, last - last_row)
        return valid if valid is None else F.pad(valid, missing, value=True)

"""The errors of swapping."""


class SwapError(ValueError):
    """The backbone of this config can not be swapped, or it is not understood how.

    Attributes:
        path: where in the config, with dots: ``model.neck.in_channels``.
        reason: what stands there, and why that is in the way.
    """

    def __init__(self, path: str, reason: str) -> None:
        super().__init__(f"{path}: {reason}")
        self.path = path
        self.reason = reason


class BoundBackboneError(SwapError):
    """The model has nothing that another backbone could take the place of."""

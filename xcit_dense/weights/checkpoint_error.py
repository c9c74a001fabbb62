"""What is wrong with a checkpoint, as one line for the user."""

import pickle

from xcit_dense.errors import UserError


class DamagedCheckpointError(UserError):
    """A file is damaged, or no checkpoint at all."""


class UnsafeCheckpointError(UserError, pickle.UnpicklingError):
    """A checkpoint holds more than tensors and plain values, so loading it could run code."""


class UnsavedCheckpointError(UserError):
    """A checkpoint could not be written; what was there before stays."""

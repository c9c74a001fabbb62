"""What is wrong with a checkpoint, as one line for the user."""

import pickle


class CheckpointError(ValueError):
    """A checkpoint cannot be read, used or saved; the message names the file and the remedy."""


class DamagedCheckpointError(CheckpointError):
    """A file is damaged, or no checkpoint at all."""


class UnsafeCheckpointError(CheckpointError, pickle.UnpicklingError):
    """A checkpoint holds more than tensors and plain values, so loading it could run code."""


class UnsavedCheckpointError(CheckpointError):
    """A checkpoint could not be written; what was there before stays."""

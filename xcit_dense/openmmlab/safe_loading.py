"""Loading checkpoints without running code that is hidden in them.

A pickle may name any function and have it called on loading. torch's ``weights_only`` refuses
that, and with it mmengine's own checkpoints, whose log history is no tensor; so mmengine 0.10.7
cannot resume with torch >= 2.6, and its fork loads such files without protection. Here the few
types that mmengine writes are allowed by name and nothing else is.
"""

import os.path
import pickle
from typing import Any

import numpy as np
import torch
from mmengine.logging import HistoryBuffer
from mmengine.runner import CheckpointLoader

_HISTORY_STATISTICS = ("min", "max", "mean", "current")


def _history_statistic(owner: type, name: str) -> Any:
    """Stand in for ``getattr``, by which a pickled HistoryBuffer names its four methods."""
    if owner is not HistoryBuffer or name not in _HISTORY_STATISTICS:
        raise pickle.UnpicklingError(f"refused: getattr({owner!r}, {name!r})")
    return getattr(owner, name)


_reconstruct_array = np.zeros(1).__reduce__()[0]
_make_scalar = np.float64(0).__reduce__()[0]

ALLOWED_TYPES = [
    HistoryBuffer,
    (_history_statistic, "builtins.getattr"),
    (_history_statistic, "__builtin__.getattr"),
    # numpy arrays and scalars; the function that makes them moved when numpy became 2
    *((_reconstruct_array, f"numpy.{core}.multiarray._reconstruct") for core in ("core", "_core")),
    *((_make_scalar, f"numpy.{core}.multiarray.scalar") for core in ("core", "_core")),
    np.ndarray,
    np.dtype,
    *{type(np.dtype(name)) for name in ("bool", "int32", "int64", "float32", "float64")},
]


def load_local_checkpoint(filename: str, map_location: Any = None) -> Any:
    """Load a checkpoint of torch or mmengine from a local file, running none of its code.

    Args:
        filename: path; ``~`` is expanded.
        map_location: as for :func:`torch.load`.

    Raises:
        FileNotFoundError: there is no such file.
        pickle.UnpicklingError: the file holds more than tensors and plain values, or no pickle.
        RuntimeError: the file is damaged.
    """
    path = os.path.expanduser(filename)
    if not os.path.isfile(path):
        raise FileNotFoundError(f"{filename}: no such checkpoint file")
    try:
        with torch.serialization.safe_globals(ALLOWED_TYPES):
            return torch.load(path, map_location=map_location, weights_only=True)
    except pickle.UnpicklingError as error:
        raise pickle.UnpicklingError(
            f"{filename}: refused, since loading it would run code or it is no checkpoint. "
            f"{_reason(str(error))} If you trust the file, allow that type: "
            "torch.serialization.add_safe_globals([...])"
        ) from error
    except (RuntimeError, EOFError) as error:
        raise RuntimeError(f"{filename}: damaged, or no checkpoint ({error})") from error


def _reason(message: str) -> str:
    """Of torch's long explanation, the paragraph that says what was met."""
    paragraphs = [text.strip() for text in message.split("\n\n") if text.strip()]
    telling = [text for text in paragraphs if "GLOBAL" in text or "WeightsUnpickler" in text]
    return (telling or paragraphs)[0]


def install() -> None:
    """Make mmengine load local checkpoints safely: ``load_from``, ``resume`` and ``init_cfg``."""
    CheckpointLoader.register_scheme(prefixes="", loader=load_local_checkpoint, force=True)

"""A failure of a trial as a finding."""

import traceback

from xcit_dense.doctor.finding import Finding


def failure(what: str, error: Exception) -> Finding:
    """What failed, how, and what to do about it.

    Args:
        what: the part of the trial, as ``a training step``.
        error: what it raised.
    """
    # mmengine wraps an error of a constructor, with its text, in one of the same class
    lines = str(error).strip().splitlines() or [_failed_line(error)]
    text = f"{what} fails: {type(error).__name__}: {' '.join(lines[0].split())}"
    return Finding(text, _remedy(error, text))


def _failed_line(error: Exception) -> str:
    """The line of code that failed: mm asserts much without saying anything."""
    frames = traceback.extract_tb(error.__traceback__)
    return frames[-1].line or "" if frames else ""


def _remedy(error: Exception, text: str) -> str:
    if isinstance(error, NotImplementedError) and "mmcv op" in text:
        return "install an mmcv with compiled ops, or do without this part"
    if isinstance(error, ImportError):
        return "install what is missing"
    if isinstance(error, KeyError) and "registry" in text:
        return "mend the name, or name the module that registers it in custom_imports"
    if "only one of size and size_divisor" in text:
        return "data_preprocessor=dict(size=(HEIGHT, WIDTH)), those of the crops"
    if "view size is not compatible" in text:
        return "XCiT's maps are channels-last: contiguous_outputs=True in the backbone"
    return "see the traceback: train.py on this config shows it"

"""Telling mm's own way of predicting from a user's."""

from torch import nn

_LIBRARIES = ("mmengine", "mmdet", "mmseg")
_THAT_PREDICT = ("predict", "_predict", "test_step", "add_pred", "postprocess")


def predicts_as_mm(module: nn.Module) -> bool:
    """Whether all methods of a module that predict are the libraries' own.

    A user's own method may call mm's and then read its results, as arrays and logits.
    """
    methods = (
        getattr(type(module), name) for name in dir(type(module)) if name.startswith(_THAT_PREDICT)
    )
    return all(
        getattr(method, "__module__", "").partition(".")[0] in _LIBRARIES for method in methods
    )

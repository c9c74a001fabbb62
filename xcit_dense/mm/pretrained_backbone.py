"""Filling a backbone from a published checkpoint, and saying what it took."""

from collections.abc import Callable, Mapping

from mmengine.logging import print_log
from mmengine.runner import CheckpointLoader
from torch import Tensor, nn

from xcit_dense.errors import UserError
from xcit_dense.weights import FittedTensors, backbone_prefix, compare, unwrap_checkpoint

Fit = Callable[[Mapping[str, Tensor]], FittedTensors]


def load_pretrained(
    backbone: nn.Module, fit: Fit, path_or_url: str, prefix: str | None = None
) -> None:
    """Load a checkpoint into a backbone and log a report.

    Args:
        backbone: is filled in place.
        fit: makes published tensors ready for it, or raises UserError.
        path_or_url: anything that mmengine can load: a path, a URL, ``timm://NAME``.
        prefix: what stands before the names of the backbone in the checkpoint; None: ``backbone.``
            where the checkpoint has that, else nothing.

    Raises:
        UserError: the checkpoint has no tensor of this backbone, or is of another network.
    """
    checkpoint = CheckpointLoader.load_checkpoint(path_or_url, "cpu", logger="current")
    try:
        report = _fill(backbone, fit, unwrap_checkpoint(checkpoint), prefix)
    except UserError as error:
        raise UserError(f"{path_or_url}: {error}") from error
    print_log(f"{path_or_url}: {report}", logger="current")


def _fill(backbone: nn.Module, fit: Fit, tensors: Mapping[str, Tensor], prefix: str | None) -> str:
    """Load tensors into a backbone; what was taken, and what was not, in a few lines."""
    if prefix is None:
        prefix = backbone_prefix(tensors)
    elif prefix and not prefix.endswith("."):
        prefix += "."
    mine = {name.removeprefix(prefix): t for name, t in tensors.items() if name.startswith(prefix)}
    fitted = fit(mine)
    if others := len(tensors) - len(mine):
        fitted.left_out["the rest of the model"] += others
    report = compare(backbone.state_dict(), fitted.state_dict)
    if not report.num_loaded:
        where = f" under {prefix!r}" if prefix else ""
        raise UserError(
            f"no tensor of this backbone{where}; the keys begin with {sorted(tensors)[:3]}"
        )
    if report.reshaped:
        raise UserError(f"tensors of other shapes than the backbone's: {report}")
    backbone.load_state_dict(fitted.state_dict, strict=False)
    return "\n  ".join([str(report), *fitted.notes()])

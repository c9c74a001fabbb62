"""Checkpoints by timm's names: ``timm://xcit_small_12_p16_384.fb_dist_in1k``."""

from difflib import get_close_matches

import timm
from mmengine.runner import CheckpointLoader
from torch import Tensor

from xcit_dense.errors import UserError

SCHEME = "timm://"


# mmengine logs what follows "load_from_" in the name of a loader
def load_from_timm(name: str, map_location: str | None = None) -> dict[str, Tensor]:
    """Fetch pretrained weights through timm, which keeps them in its own cache.

    Args:
        name: ``timm://`` and the name of a pretrained model of timm, with or without its tag.
        map_location: device that the tensors go to.

    Returns:
        Tensors by timm's names.

    Raises:
        UserError: timm has no pretrained weights of that name, or cannot fetch them.
    """
    model_name = name.removeprefix(SCHEME)
    if not timm.models.is_model_pretrained(model_name):
        tagged = timm.list_pretrained()
        untagged = {known.split(".")[0] for known in tagged}
        close = get_close_matches(model_name, [*tagged, *sorted(untagged)], n=5, cutoff=0.5)
        hint = f"close to it: {', '.join(close)}" if close else "timm.list_pretrained() lists them"
        raise UserError(f"{name}: timm has no pretrained weights of that name; {hint}")
    try:
        model = timm.create_model(model_name, pretrained=True)
    except OSError as error:
        raise UserError(f"{name}: timm cannot fetch the weights ({error})") from error
    return dict(model.to(map_location or "cpu").state_dict())


def install() -> None:
    """Make mmengine know ``timm://`` wherever it takes a checkpoint."""
    CheckpointLoader.register_scheme(prefixes=SCHEME, loader=load_from_timm, force=True)

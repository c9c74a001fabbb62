"""Building a trained detector or segmentor from a config and a checkpoint."""

import copy
import logging
from collections.abc import Mapping
from pathlib import Path

import torch
from mmengine.config import Config
from mmengine.logging import print_log
from mmengine.model import revert_sync_batchnorm
from mmengine.registry import MODELS, init_default_scope
from mmengine.runner import CheckpointLoader
from torch import nn

from xcit_dense.errors import UserError, in_one_line
from xcit_dense.mm.loading import load_complete
from xcit_dense.predict.categories import (
    Categories,
    categories_of,
    data_metainfo,
    metainfo_in,
)
from xcit_dense.predict.scope import scope_of
from xcit_dense.weights import unwrap_checkpoint

# Parts that predictions do without; slim checkpoints lack them.
_ONLY_FOR_TRAINING = ("auxiliary_head.",)


def build_trained_model(
    cfg: Config, checkpoint: Path | str, device: str
) -> tuple[nn.Module, Categories]:
    """Build the model of a config with the weights of a checkpoint, in eval mode.

    The names of the classes are those that training has left in the checkpoint, else those of the
    config's test data.

    Args:
        cfg: a config of mmdet or mmseg.
        checkpoint: path or URL.
        device: where the model is put.

    Raises:
        UserError: the checkpoint is unusable or does not fit the config.
        FileNotFoundError: there is no such checkpoint.
        ValueError: the config has no model, or one that cannot be built.
    """
    model = _build(cfg)
    loaded = CheckpointLoader.load_checkpoint(str(checkpoint), map_location="cpu")
    unused = load_complete(model, unwrap_checkpoint(loaded), checkpoint, _is_for_predicting)
    _check_unused([name for name in unused if _is_for_predicting(name)], checkpoint)
    described = {**data_metainfo(cfg), **metainfo_in(loaded)}
    return model.to(torch.device(device)).eval(), categories_of(described, checkpoint)


def _build(cfg: Config) -> nn.Module:
    if not isinstance(cfg.get("model"), Mapping):
        raise ValueError("there is no model")
    init_default_scope(scope_of(cfg))
    try:
        # a copy: some modules of mm's change the dicts that they are built from
        return revert_sync_batchnorm(MODELS.build(copy.deepcopy(cfg.model)))
    except Exception as error:  # any module may refuse its arguments in any way
        raise ValueError(f"the model cannot be built ({in_one_line(error)})") from error


def _is_for_predicting(name: str) -> bool:
    return not name.startswith(_ONLY_FOR_TRAINING)


def _check_unused(names: list[str], source: object) -> None:
    """Refuse another backbone's weights, which may fill a smaller one; tell of other surplus."""
    of_backbone = [name for name in names if name.startswith("backbone.")]
    if of_backbone:
        raise UserError(
            f"{source} does not fit the config: {len(of_backbone)} of its tensors have no place in "
            f"the backbone, {of_backbone[0]} among them"
        )
    if names:
        print_log(
            f"{source}: {len(names)} of its tensors have no place in the model, {names[0]} among "
            "them",
            logger="current",
            level=logging.WARNING,
        )

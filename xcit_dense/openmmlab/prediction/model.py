"""Building a trained detector or segmentor from a config and a checkpoint."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config
from mmengine.model import revert_sync_batchnorm
from mmengine.registry import DATASETS, MODELS, init_default_scope
from mmengine.runner import CheckpointLoader
from torch import nn

from xcit_dense.models import unwrap_checkpoint
from xcit_dense.openmmlab.checkpoints import CheckpointError
from xcit_dense.openmmlab.checkpoints.complete_loading import load_complete
from xcit_dense.openmmlab.config_tree import innermost_dataset

# Parts that predictions do without; slim checkpoints lack them.
_ONLY_FOR_TRAINING = ("auxiliary_head.",)


@dataclass(frozen=True)
class Categories:
    """What a model tells apart.

    Attributes:
        names: of each label.
        palette: red, green and blue of each label, 0 to 255.
    """

    names: tuple[str, ...]
    palette: tuple[tuple[int, int, int], ...]


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
        CheckpointError: the checkpoint is unusable or does not fit the config.
        FileNotFoundError: there is no such checkpoint.
    """
    init_default_scope(cfg.get("default_scope", "mmdet"))
    model = revert_sync_batchnorm(MODELS.build(cfg.model))
    loaded = CheckpointLoader.load_checkpoint(str(checkpoint), map_location="cpu")
    load_complete(model, unwrap_checkpoint(loaded), checkpoint, _is_for_predicting)
    described = {**data_metainfo(cfg), **_metainfo_in(loaded)}
    return model.to(torch.device(device)).eval(), categories_of(described, checkpoint)


def categories_of(metainfo: dict[str, Any], source: object) -> Categories:
    """The classes that a data set describes; colours are made up where it has none.

    Raises:
        CheckpointError: it names no classes.
    """
    names = metainfo.get("classes")
    if not names:
        raise CheckpointError(
            f"{source}: neither it nor the test data of the config name the classes; add "
            "metainfo=dict(classes=(...)) to test_dataloader.dataset"
        )
    palette = metainfo.get("palette")
    if not isinstance(palette, list | tuple) or len(palette) < len(names):
        palette = _distinct_colours(len(names))
    return Categories(tuple(names), tuple(tuple(map(int, colour)) for colour in palette))


def data_metainfo(cfg: Config) -> dict[str, Any]:
    """What the config and the data set's class say about the test data; no data are needed."""
    dataset = innermost_dataset((cfg.get("test_dataloader") or {}).get("dataset", {}))
    with DATASETS.switch_scope_and_registry(cfg.get("default_scope", "mmdet")) as datasets:
        kind = datasets.get(dataset.get("type", ""))
    return {**getattr(kind, "METAINFO", {}), **(dataset.get("metainfo") or {})}


def _metainfo_in(checkpoint: dict[str, Any]) -> dict[str, Any]:
    """What a checkpoint says about its data, also one of mmdet 2 or mmseg 0, in capitals."""
    meta = checkpoint.get("meta") or {}
    described = meta.get("dataset_meta") or meta
    described = {name.lower(): value for name, value in described.items()}
    return {name: described[name] for name in ("classes", "palette") if described.get(name)}


def _is_for_predicting(name: str) -> bool:
    return not name.startswith(_ONLY_FOR_TRAINING)


def _distinct_colours(count: int) -> list[tuple[int, int, int]]:
    """Colours around the circle of hues, neighbours far apart."""
    from colorsys import hsv_to_rgb

    golden = 0.618034
    return [
        tuple(round(255 * part) for part in hsv_to_rgb(index * golden % 1, 0.75, 0.9))
        for index in range(count)
    ]

"""What a model tells apart, by what its checkpoint and its config say about their data."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from mmengine.config import Config
from mmengine.fileio import list_from_file
from mmengine.registry import DATASETS

from xcit_dense.errors import UserError
from xcit_dense.predict.scope import scope_of, tested_dataset


@dataclass(frozen=True)
class Categories:
    """What a model tells apart.

    Attributes:
        names: of each label.
        palette: red, green and blue of each label, 0 to 255.
    """

    names: tuple[str, ...]
    palette: tuple[tuple[int, int, int], ...]


def categories_of(metainfo: dict[str, Any], source: object) -> Categories:
    """The classes that a data set describes; colours are made up where it has none.

    Raises:
        UserError: it names no classes.
    """
    names = metainfo.get("classes")
    if isinstance(names, str):
        raise UserError(
            f"{source}, or the test data of the config: classes={names!r} is neither a list of "
            "names nor a file with one a line"
        )
    if names is None or not len(names):
        raise UserError(
            f"{source}: neither it nor the test data of the config name the classes; add "
            "metainfo=dict(classes=(...)) to test_dataloader.dataset"
        )
    palette = metainfo.get("palette")
    if not isinstance(palette, list | tuple | np.ndarray) or len(palette) < len(names):
        palette = _distinct_colours(len(names))
    return Categories(tuple(names), tuple(tuple(map(int, colour)) for colour in palette))


def data_metainfo(cfg: Config) -> dict[str, Any]:
    """What the config and the data set's class say about the test data; no data are needed.

    As in mm, a text may be the name of a file with the values, one a line.
    """
    dataset = tested_dataset(cfg)
    described = dataset.get("metainfo") or {}
    read = {name: _read_if_a_file(value) for name, value in described.items()}
    return {**getattr(_class_of(dataset, scope_of(cfg)), "METAINFO", {}), **read}


def metainfo_in(checkpoint: dict[str, Any]) -> dict[str, Any]:
    """What a checkpoint says about its data, also one of mmdet 2 or mmseg 0, in capitals."""
    meta = checkpoint.get("meta") or {}
    described = meta.get("dataset_meta") or meta
    if not isinstance(described, Mapping):
        return {}
    described = {name.lower(): value for name, value in described.items()}
    found = {name: described.get(name) for name in ("classes", "palette")}
    return {name: value for name, value in found.items() if value is not None and len(value)}


def _class_of(dataset: dict[str, Any], scope: str) -> type | None:
    """The class of a data set; None where nobody has registered it, as predictions do without."""
    kind = dataset.get("type")
    if not isinstance(kind, str):
        return kind
    with DATASETS.switch_scope_and_registry(scope) as datasets:
        try:
            return datasets.get(kind)
        except RuntimeError:  # mmengine knows no other way to say so
            return None


def _read_if_a_file(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    try:
        return list_from_file(value)
    except (OSError, TypeError):  # a plain text
        return value


def _distinct_colours(count: int) -> list[tuple[int, int, int]]:
    """Colours around the circle of hues, neighbours far apart."""
    from colorsys import hsv_to_rgb

    golden = 0.618034
    return [
        tuple(round(255 * part) for part in hsv_to_rgb(index * golden % 1, 0.75, 0.9))
        for index in range(count)
    ]

"""Pointing a config at a data set, and seeing early whether it is there."""

import logging
import os
import os.path as osp
from collections.abc import Iterator, Sequence
from typing import Any

from mmengine.config import Config
from mmengine.logging import print_log
from torch import Tensor

from xcit_dense.errors import UserError
from xcit_dense.mm.config import dicts_in, type_name

_PATHS_OF_DATASETS = ("data_root", "ann_file", "data_prefix")
_FOLDERS_OF_OTHER_SIZES: set[str] = set()
IGNORED_LABEL = 255  # of pixels that are left out, mmseg's where a data set says nothing else
_READ_BY_EVALUATORS = ("ann_file", "seg_prefix")


def set_data_root(cfg: Config, data_root: str) -> None:
    """Put ``data_root`` in the place of the data root of a config, in place.

    What lies in the old one moves with it, however it is written: absolute paths of data sets, and
    the paths of the evaluators.

    Raises:
        UserError: a data set has no data root, or several have different ones, or a path lies
            elsewhere: old data would be mixed with new.
    """
    by_option = "set each path by --cfg-options"
    roots = {
        where: _normal(node["data_root"]) if node.get("data_root") else None
        for where, node in _dicts_of(cfg, "dataloader")
        if any(node.get(key) for key in _PATHS_OF_DATASETS)
    }
    if len(set(roots.values())) != 1 or None in roots.values():
        found = ", ".join(f"{where}.data_root={root}" for where, root in roots.items())
        raise UserError(
            f"--data-root {data_root} takes the place of the one data root of all data sets, and "
            f"the config has {found or 'no data set'}: {by_option}"
        )
    old = next(iter(roots.values()))
    for part, is_whole_path in (("dataloader", osp.isabs), ("evaluator", bool)):
        for where, node in _dicts_of(cfg, part):
            is_read = where.endswith(".data_prefix")
            for key, path in list(node.items()):
                if key == "data_root":
                    node[key] = data_root
                elif key == "type" or not isinstance(path, str) or not is_whole_path(path):
                    continue
                elif _is_below(path, old):
                    node[key] = osp.join(data_root, osp.relpath(_normal(path), old))
                elif (is_read or key in _READ_BY_EVALUATORS) and not _is_below(path, data_root):
                    raise UserError(
                        f"--data-root {data_root}: {where}.{key}={path!r} does not lie in the old "
                        f"data root {old}, so it would stay: {by_option}"
                    )
    if "data_root" in cfg:
        cfg.data_root = data_root


def _dicts_of(cfg: Config, part: str) -> Iterator[tuple[str, dict]]:
    """The dicts of the data loaders or evaluators of all splits, and where they stand."""
    for split in ("train", "val", "test"):
        yield from dicts_in(cfg.get(f"{split}_{part}"), f"{split}_{part}")


def _is_below(path: str, root: str) -> bool:
    return f"{_normal(path)}/".startswith(f"{_normal(root)}/")


def _normal(path: str) -> str:
    return path.rstrip("/") if "://" in path else osp.abspath(path)


def check_data_exists(cfg: Config, splits: list[str]) -> None:
    """See that every file and folder that the splits of a config name is there and not empty.

    Args:
        cfg: the config.
        splits: of ``train``, ``val`` and ``test``.

    Raises:
        FileNotFoundError: something is missing; says what was looked for and the remedy.
        UserError: a folder is empty.
    """
    remedy = "Point elsewhere with --data-root DIR, which sets every data root of the config"
    for split in splits:
        for _, dataset in dicts_in(cfg.get(f"{split}_dataloader")):
            for path in _paths_that_are_read(dataset):
                if "://" not in path and not osp.exists(path):
                    raise FileNotFoundError(
                        f"{split} data: looked for {osp.abspath(path)}, not found. {remedy}"
                    )
                if osp.isdir(path) and not os.listdir(path):
                    raise UserError(
                        f"{split} data: {osp.abspath(path)} is an empty folder. {remedy}"
                    )


def _paths_that_are_read(dataset: dict) -> Iterator[str]:
    """Files and folders; what lies in a store of mmengine's is left to the data set."""
    root = dataset.get("data_root") or ""
    if (dataset.get("backend_args") or {}).get("backend", "local") != "local":
        return
    if dataset.get("ann_file"):
        yield osp.join(root, dataset["ann_file"])
    steps = [step for _, step in dicts_in(dataset.get("pipeline"))]
    for name, prefix in (dataset.get("data_prefix") or {}).items():
        # configs of detection often inherit a folder of segmentations, and do not look there
        is_read = name != "seg" or any(
            step.get("with_seg") or "Panoptic" in type_name(step) for step in steps
        )
        if prefix is not None and is_read:
            yield osp.join(root, prefix)


def check_label_map(
    sample: Any, classes: Sequence[str] | None, ignored: int = IGNORED_LABEL
) -> None:
    """See that the label map of a sample of mmseg fits its image, and the classes.

    Args:
        sample: what a pipeline has made; others than of mmseg are passed over.
        classes: of the data set.
        ignored: the label of pixels that are left out.

    Raises:
        UserError: it has several channels, another size, or labels that are no class.
    """
    described = sample.get("data_samples") if isinstance(sample, dict) else None
    truth = described.get("gt_sem_seg") if hasattr(described, "get") else None
    if truth is None or "data" not in truth or not isinstance(sample["inputs"], Tensor):
        return
    path, (*channels, height, width) = described.get("seg_map_path", ""), truth.data.shape
    if channels != [1]:
        raise UserError(
            f"the label map {path} has the shape {tuple(truth.data.shape)}; wanted is one channel "
            "with the number of the class of each pixel: convert maps in colours before"
        )
    # in testing it is loaded after the image was resized
    image = tuple(described.get("ori_shape", (height, width)))
    if (height, width) not in (image, tuple(sample["inputs"].shape[-2:])):
        raise UserError(
            f"the label map {path} has {height} x {width} pixels, its image {image[0]} x {image[1]}"
        )
    labels = truth.data[(truth.data != ignored) & (truth.data != IGNORED_LABEL)]
    if classes and labels.numel() and not 0 <= labels.min() <= labels.max() < len(classes):
        raise UserError(
            f"the label map {path} has labels from {labels.min()} to {labels.max()}; with "
            f"{len(classes)} classes in metainfo.classes they go from 0 to {len(classes) - 1}, or "
            f"are {ignored} for what is left out"
        )


def compare_sizes(sample: Any, annotated: tuple[int, int], name: str) -> None:
    """Warn of an image that is not of its annotated height and width, once a folder and process."""
    described = sample.get("data_samples") if isinstance(sample, dict) else None
    size = described.get("ori_shape") if hasattr(described, "get") else None
    folder = osp.dirname(name)
    if size is None or tuple(size[:2]) == annotated or folder in _FOLDERS_OF_OTHER_SIZES:
        return
    _FOLDERS_OF_OTHER_SIZES.add(folder)
    print_log(
        f"{name} has {size[0]} x {size[1]} pixels, and is annotated as {annotated[0]} x "
        f"{annotated[1]}, maybe others too; if boxes were drawn on that size they lie elsewhere",
        logger="current",
        level=logging.WARNING,
    )

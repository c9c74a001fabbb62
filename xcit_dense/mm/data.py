"""Pointing a config at a data set, and seeing early whether it is there."""

import json
import os
import os.path as osp
from collections.abc import Iterator

from mmengine.config import Config

from xcit_dense.errors import UserError
from xcit_dense.mm.config import dicts_in, type_name

MAX_BYTES_READ_TWICE = 10_000_000
_SET_PATHS = "set each path by --cfg-options"
_READ_BY_EVALUATORS = ("ann_file", "seg_prefix")
# of COCO's format, and of mmengine's own
_IMAGE_LISTS = ("images", "data_list")


def set_data_root(cfg: Config, data_root: str) -> None:
    """Put ``data_root`` in the place of the data root of a config, in place.

    What lies in the old one moves with it, however it is written: absolute paths of data sets, and
    the paths of the evaluators.

    Raises:
        UserError: a data set has no data root, or several have different ones, or a path lies
            elsewhere: old data would be mixed with new.
    """
    datasets = dict(_datasets(cfg))
    roots = {}
    for where, dataset in datasets.items():
        if not dataset.get("data_root"):
            raise UserError(
                f"--data-root {data_root}: {where} has no data_root that it could take the place "
                f"of; give it one, with paths below it, or {_SET_PATHS}"
            )
        roots.setdefault(_normal(dataset["data_root"]), where)
    if len(roots) > 1:
        named = ", ".join(f"{where}.data_root={root}" for root, where in roots.items())
        raise UserError(
            f"--data-root {data_root} would make one data set of several, {named}: {_SET_PATHS}"
        )
    if not roots:
        raise UserError(f"--data-root {data_root}: the config has no data set")
    (old,) = roots

    def move(node: dict, key: str, where: str, is_read: bool) -> None:
        path = node[key]
        if _is_below(path, old):
            node[key] = osp.join(data_root, osp.relpath(_normal(path), old))
        elif is_read and not _is_below(path, data_root):
            raise UserError(
                f"--data-root {data_root}: {where}.{key}={path!r} does not lie in the old data "
                f"root {old}, so it would stay: {_SET_PATHS}"
            )

    for where, dataset in datasets.items():
        dataset["data_root"] = data_root
        prefixes = dataset.get("data_prefix") or {}
        for node, key in [(dataset, "ann_file"), *((prefixes, key) for key in prefixes)]:
            if isinstance(node.get(key), str) and osp.isabs(node[key]):
                move(node, key, where, is_read=True)
    for name in ("val_evaluator", "test_evaluator"):
        for where, evaluator in dicts_in(cfg.get(name), name):
            for key in [key for key, value in evaluator.items() if isinstance(value, str)]:
                move(evaluator, key, where, is_read=key in _READ_BY_EVALUATORS)
    if "data_root" in cfg:
        cfg.data_root = data_root


def _datasets(cfg: Config) -> Iterator[tuple[str, dict]]:
    """The dicts of data sets with files, innermost ones of wrappers, and where they stand."""
    for split in ("train", "val", "test"):
        name = f"{split}_dataloader"
        for where, node in dicts_in(cfg.get(name), name):
            if any(node.get(key) for key in ("data_root", "ann_file", "data_prefix")):
                yield where, node


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
        UserError: a folder is empty, or an annotation file is damaged or without images.
    """
    for split in splits:
        for _, dataset in dicts_in(cfg.get(f"{split}_dataloader")):
            if "data_root" in dataset or "ann_file" in dataset:
                for path in _paths_that_are_read(dataset):
                    _check_path(split, path)


def _paths_that_are_read(dataset: dict) -> Iterator[str]:
    if (dataset.get("backend_args") or {}).get("backend", "local") != "local":
        return  # in a store of mmengine's; the data set itself will tell
    root = dataset.get("data_root") or ""
    if dataset.get("ann_file"):
        yield osp.join(root, dataset["ann_file"])
    for name, prefix in (dataset.get("data_prefix") or {}).items():
        # configs of detection often inherit a folder of segmentations, and do not look there
        if prefix is not None and (name != "seg" or _reads_segmentations(dataset)):
            yield osp.join(root, prefix)


def _reads_segmentations(dataset: dict) -> bool:
    steps = [step for _, step in dicts_in(dataset.get("pipeline"))]
    return any(step.get("with_seg") or "Panoptic" in type_name(step) for step in steps)


def _check_path(split: str, path: str) -> None:
    remedy = "Point elsewhere with --data-root DIR, which sets every data root of the config"
    if "://" in path:
        return  # in a store of mmengine's, too
    if not osp.exists(path):
        raise FileNotFoundError(
            f"{split} data: looked for {osp.abspath(path)}, not found. {remedy}"
        )
    if osp.isdir(path) and not os.listdir(path):
        raise UserError(f"{split} data: {osp.abspath(path)} is an empty folder. {remedy}")
    if path.endswith(".json"):
        _check_annotations(split, path)


def _check_annotations(split: str, path: str) -> None:
    """Refuse a file without images; a large file surely has some, and is slow to read."""
    if osp.getsize(path) > MAX_BYTES_READ_TWICE:
        return
    with open(path, encoding="utf-8") as file:
        try:
            annotations = json.load(file)
        except ValueError as error:
            raise UserError(
                f"{split} data: {osp.abspath(path)} is no annotation file ({error})"
            ) from error
    images = [annotations[key] for key in _IMAGE_LISTS if key in annotations]
    if not annotations or (images and not any(images)):
        raise UserError(f"{split} data: {osp.abspath(path)} lists no images")

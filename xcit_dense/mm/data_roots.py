"""Pointing a config at a data set, and seeing early whether it is there."""

import json
import os
import os.path as osp
from collections.abc import Iterator

from mmengine.config import Config

from xcit_dense.errors import UserError
from xcit_dense.mm.config_tree import dicts_in, type_name

MAX_BYTES_READ_TWICE = 10_000_000
# of COCO's format, and of mmengine's own
_IMAGE_LISTS = ("images", "data_list")


def set_data_root(cfg: Config, data_root: str) -> None:
    """Put ``data_root`` in the place of every data root of a config, in place.

    The ``data_root`` of every data set changes, and with it every path of an evaluator that
    begins with the old one.
    """
    old_roots = {node["data_root"] for _, node in dicts_in(cfg._cfg_dict) if node.get("data_root")}
    longest_first = sorted((root.rstrip("/") for root in old_roots), key=len, reverse=True)

    def moved(path: str) -> str:
        for root in longest_first:
            if path.rstrip("/") == root or path.startswith(root + "/"):
                return osp.join(data_root, path[len(root) :].lstrip("/"))
        return path

    for _, node in dicts_in(cfg._cfg_dict):
        if node.get("data_root"):
            node["data_root"] = data_root
        if isinstance(node.get("ann_file"), str):
            node["ann_file"] = moved(node["ann_file"])


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

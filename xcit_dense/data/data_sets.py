"""The data sets of a config, out of their wrappers: classes, files and what an annotation says."""

import inspect
import os
import os.path as osp
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from mmengine.config import Config
from mmengine.registry import DATASETS, TRANSFORMS

from xcit_dense.errors import counted
from xcit_dense.mm.config import dicts_in


@dataclass
class DataSet:
    """One data set of a config, without the wrappers around it.

    Attributes:
        split: ``train``, ``val`` or ``test``.
        path: where it stands in the config.
        node: its dict there.
        content: of its annotation file in COCO's format, where that was read and can be used.
    """

    split: str
    path: str
    node: dict
    content: dict | None = field(default=None, repr=False)

    @cached_property
    def kind(self) -> type | None:
        """Its class; None if that is not known."""
        kind = self.node.get("type")
        with DATASETS.switch_scope_and_registry(None) as data_sets:
            return data_sets.get(kind) if isinstance(kind, str) else kind

    @property
    def is_coco(self) -> bool:
        """Whether it reads objects from a local file in COCO's format."""
        api = getattr(self.kind, "COCOAPI", None)
        return getattr(api, "__name__", "") == "COCO" and self.is_local and "ann_file" in self.node

    @property
    def is_of_label_maps(self) -> bool:
        """Whether it is one of mmseg's, with an image and a label map a sample."""
        return hasattr(self.kind, "get_label_map") and self.is_local

    @property
    def is_local(self) -> bool:
        """Whether its files are plain files."""
        return (self.node.get("backend_args") or {}).get("backend", "local") == "local"

    @property
    def told_classes(self) -> Any:
        """What the config says of class names: a list, a file of lines, or None."""
        return (self.node.get("metainfo") or {}).get("classes")

    @property
    def names_of_kind(self) -> list[str] | None:
        """The class names that its class has by default."""
        names = (getattr(self.kind, "METAINFO", None) or {}).get("classes")
        return None if names is None else list(names)

    @cached_property
    def class_names(self) -> list[str] | None:
        """The names of its classes in their order; None where there are none, or unusable ones."""
        told = self.told_classes
        if told is None:
            return self.names_of_kind
        if isinstance(told, str):  # a file of lines, as mm takes it
            return Path(told).read_text().splitlines() if osp.isfile(told) else None
        return list(told) if all(isinstance(name, str) for name in told) else None

    @property
    def file(self) -> str:
        """Its annotation file, or an empty text."""
        name = self.node.get("ann_file") or ""
        return osp.join(self.node.get("data_root") or "", name) if name else ""

    def folder(self, key: str) -> str:
        """The folder that ``data_prefix`` has for ``img``, ``img_path`` or ``seg_map_path``."""
        prefix = (self.node.get("data_prefix") or {}).get(key) or ""
        return osp.join(self.node.get("data_root") or "", prefix)

    def default(self, name: str) -> Any:
        """A setting of the node, or what its class has where the node says nothing."""
        if name in self.node:
            return self.node[name]
        for kind in inspect.getmro(self.kind):
            parameter = inspect.signature(kind.__init__).parameters.get(name)
            if parameter is not None:
                return parameter.default
        return None

    @cached_property
    def steps(self) -> list[dict]:
        """The steps of its pipeline, the inner ones too, in their order."""
        return [step for _, step in dicts_in(self.node.get("pipeline"))]

    @cached_property
    def image_files(self) -> list[str]:
        """Paths of its images, where its class is known."""
        if self.content is not None:
            folder = self.folder("img")
            return [osp.join(folder, image["file_name"]) for image in self.content["images"]]
        return self._files("img_path", "img_suffix")

    @property
    def label_map_files(self) -> list[str]:
        """Of a data set of mmseg: paths of the label maps of its images."""
        return self._files("seg_map_path", "seg_map_suffix")

    def _files(self, key: str, suffix: str) -> list[str]:
        folder = self.folder(key)
        return [osp.join(folder, f"{name}{self.default(suffix)}") for name in self.sample_names]

    @cached_property
    def sample_names(self) -> list[str]:
        """Of a data set of mmseg: paths of images in their folder, without the suffix."""
        if not self.is_of_label_maps:
            return []
        if osp.isfile(self.file):
            return [line.strip() for line in Path(self.file).read_text().splitlines()]
        return names_in(self.folder("img_path"), self.default("img_suffix"))

    @cached_property
    def objects(self) -> "Objects":
        """What the annotation file says of objects, as arrays."""
        return Objects(self.content, self.class_names or [])

    @property
    def summary(self) -> str:
        """What it holds, in one line."""
        images = f"{self.path}: {counted(len(self.image_files), 'image')}"
        if self.content is None:
            return images
        used, names = self.objects.is_used, self.class_names or []
        counts = np.bincount(self.objects.label[used], minlength=len(names)).tolist()
        of_class = ", ".join(f"{name} {count}" for name, count in zip(names, counts, strict=True))
        return f"{images} with {counted(used.sum(), 'object')} to learn from: {of_class}"


class Objects:
    """The objects of a file in COCO's format, as arrays.

    Attributes:
        boxes: left, top, width, height in pixels, (N, 4).
        image: number of the image of each among the file's images, (N,).
        label: number of the class of each; -1 for categories that are no class, (N,).
        is_crowd: whether it is a crowd, (N,).
        has_extent: whether its box has a pixel of its image, else mmdet leaves it out, (N,).
        are_parts: whether boxes are fractions, and all within 1: parts of the image's size.
        is_used: whether training learns from it: of a class, no crowd, with an extent, (N,).
        sizes: widths and heights of all images, (I, 2).
    """

    def __init__(self, content: dict, names: list[str]) -> None:
        objects, images = content["annotations"], content["images"]
        number = {image["id"]: index for index, image in enumerate(images)}
        labels = {name: index for index, name in enumerate(names)}
        label = {c["id"]: labels.get(c["name"], -1) for c in content["categories"]}
        self.sizes = np.array([(image["width"], image["height"]) for image in images])
        self.boxes = np.array([one["bbox"] for one in objects], float).reshape(-1, 4)
        self.image = np.array([number[one["image_id"]] for one in objects], int)
        self.label = np.array([label[one["category_id"]] for one in objects], int)
        self.is_crowd = np.array([bool(one["iscrowd"]) for one in objects], bool)
        corner, extent = self.boxes[:, :2], self.boxes[:, 2:]
        within = (self.boxes >= 0).all() and (corner + extent <= 1.01).all()  # rounded
        self.are_parts = bool(within and (self.boxes % 1).any())
        inside = (corner < self.sizes[self.image]) & (corner + extent > 0)
        self.has_extent = inside.all(1) & (extent >= 1).all(1)
        self.is_used = (self.label >= 0) & ~self.is_crowd & self.has_extent


def are_of_mm(steps: list[dict]) -> bool:
    """Whether steps of a pipeline are known ones of mm, none of anybody's own."""
    with TRANSFORMS.switch_scope_and_registry(None) as known:
        kinds = [known.get(k) if isinstance(k := step["type"], str) else k for step in steps]
    sources = {getattr(kind, "__module__", "").partition(".")[0] for kind in kinds}
    return sources <= {"mmcv", "mmdet", "mmseg"}


def names_in(folder: str, suffix: str) -> list[str]:
    """Files of a suffix at and below a folder, without it, sorted."""
    return sorted(
        osp.relpath(osp.join(place, name), folder)[: -len(suffix) or None]
        for place, _, names in os.walk(folder)
        for name in names
        if name.endswith(suffix)
    )


@dataclass
class Data:
    """The data of a config, as the checks see them.

    Attributes:
        cfg: the config.
        sets: its data sets.
        processes: how many train together; None if that is not known.
    """

    cfg: Config
    sets: list[DataSet]
    processes: int | None = None

    def of(self, *splits: str) -> list[DataSet]:
        """The data sets of some splits."""
        return [data_set for data_set in self.sets if data_set.split in splits]


def data_sets_of(cfg: Config, splits: list[str]) -> list[DataSet]:
    """Every data set of some splits, but for those that an earlier split has too."""
    found: list[DataSet] = []
    for split in splits:
        node = (cfg.get(f"{split}_dataloader") or {}).get("dataset")
        inner = _unwrap(node, f"{split}_dataloader.dataset") if isinstance(node, dict) else ()
        for path, dataset in inner:
            if all(dataset != other.node for other in found):
                found.append(DataSet(split, path, dataset))
    return found


def _unwrap(node: dict, path: str) -> Iterator[tuple[str, dict]]:
    if isinstance(node.get("dataset"), dict):
        yield from _unwrap(node["dataset"], f"{path}.dataset")
    elif node.get("datasets"):
        for index, inner in enumerate(node["datasets"]):
            yield from _unwrap(inner, f"{path}.datasets.{index}")
    else:
        yield path, node

"""A data set with its pixels: each image and label map is read, checked, and seen in a picture."""

import os.path as osp
from collections import defaultdict
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from mmcv.transforms import LoadImageFromFile
from PIL import Image

from xcit_dense.data.contact_sheet import annotated_map, annotated_objects, choose_images
from xcit_dense.data.data_sets import DataSet
from xcit_dense.data.image_checks import check_images
from xcit_dense.data.label_map_checks import check_label_maps, read_label_maps
from xcit_dense.data.picture import draw_data_set
from xcit_dense.errors import Finding
from xcit_dense.mm.config import type_name
from xcit_dense.predict.results import Categories, categories_of


def check_pixels(
    data_set: DataSet, draws: bool, with_masks: bool = True
) -> tuple[list[Finding], Figure | None]:
    """Read all images and label maps that are there, say what is wrong, and draw some.

    Args:
        data_set: in COCO's format with content that can be used, or of mmseg; of others nothing is
            looked at.
        draws: whether a picture is wanted.
        with_masks: whether the masks of its objects were checked, and are drawn.
    """
    loads = [step for step in data_set.steps if type_name(step) == "LoadImageFromFile"]
    settings = {key: value for key, value in (loads or [{}])[0].items() if key != "type"}
    loader = LoadImageFromFile(**settings)
    if data_set.content is not None:
        return _of_objects(data_set, draws, with_masks, loader)
    return _of_label_maps(data_set, draws, loader)


def _of_objects(
    data_set: DataSet, draws: bool, with_masks: bool, loader: LoadImageFromFile
) -> tuple[list[Finding], Figure | None]:
    images, objects, names = data_set.content["images"], data_set.objects, data_set.class_names
    files = list(map(Path, data_set.image_files))
    sizes = [(image["height"], image["width"]) for image in images]
    there = [index for index, file in enumerate(files) if file.is_file()]
    findings = list(check_images([(files[index], sizes[index]) for index in there], loader))
    if not (draws and there and names):
        return findings, None
    records = defaultdict(list)
    keys = ["bbox", "category_id", "iscrowd", *(["segmentation"] if with_masks else [])]
    for record in data_set.content["annotations"]:
        records[record["image_id"]].append({key: record.get(key) for key in keys})
    label_of = {
        category["id"]: names.index(category["name"])
        for category in data_set.content["categories"]
        if category["name"] in names
    }
    used = objects.is_used & np.isin(objects.image, there)
    labels = objects.label[used]
    chosen = choose_images(np.searchsorted(there, objects.image[used]), labels, len(there))
    sheet = [
        annotated_objects(files[i], sizes[i], records[images[i]["id"]], label_of)
        for i in (there[number] for number in chosen)
    ]
    seen = np.unique(np.column_stack([objects.image[used], labels]), axis=0)
    counts = [np.bincount(each, minlength=len(names)) for each in (labels, seen[:, 1])]
    figure = draw_data_set(
        data_set.title, _categories(data_set, names), *counts, objects.sizes, sheet,
        objects.boxes[used][:, 2:], loader=loader,
    )  # fmt: skip
    return findings, figure


def _of_label_maps(
    data_set: DataSet, draws: bool, loader: LoadImageFromFile
) -> tuple[list[Finding], Figure | None]:
    reduces = bool(data_set.default("reduce_zero_label"))
    files = [Path(file) for file in data_set.image_files if osp.isfile(file)]
    findings = list(check_images([(file, None) for file in files], loader))
    of_files = zip(data_set.image_files, data_set.label_map_files, strict=True)
    pairs = [(Path(image), Path(label_map)) for image, label_map in of_files]
    pairs = [pair for pair in pairs if pair[0].is_file() and pair[1].is_file()]
    # mmseg takes some classes of a data set out of all that its maps have
    names = data_set.names_of_kind or data_set.class_names
    if not pairs or not names:
        return findings, None
    maps = read_label_maps(pairs, loader)
    findings += check_label_maps(pairs, names, reduces, data_set.default("ignore_index"), maps)
    if not draws:
        return findings, None
    counts = np.array([each.counts[int(reduces) :][: len(names)] for each in maps])
    chosen = choose_images(*np.nonzero(counts), len(pairs))
    sizes = []
    for file, _ in pairs:
        with Image.open(file) as image:
            sizes.append(image.size)
    figure = draw_data_set(
        data_set.title, _categories(data_set, names), counts.sum(0), (counts > 0).sum(0),
        np.array(sizes), [annotated_map(*pairs[index], reduces) for index in chosen], loader=loader,
    )  # fmt: skip
    return findings, figure


def _categories(data_set: DataSet, names: list[str]) -> Categories:
    metainfo = {**getattr(data_set.kind, "METAINFO", {}), **(data_set.node.get("metainfo") or {})}
    return categories_of({**metainfo, "classes": names}, data_set.path)

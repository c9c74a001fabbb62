"""Annotation files in COCO's format with values that compiled code should never see."""

import copy
import json
import math
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from dev.fuzz.cases import Case
from mmdet.datasets import CocoDataset
from mmdet.evaluation import CocoMetric
from mmengine.config import Config
from PIL import Image

from xcit_dense.mm.annotations import read_annotations_safely
from xcit_dense.mm.repeatable_training import load_samples

_SQUARE = [10, 10, 30, 10, 30, 30, 10, 30]
_RUNS = {"size": [48, 64], "counts": [1000, 20, 2052]}
_VALUES = [
    None, True, "", "x", "o" * 50, "04" * 9, [], [[]], {}, -20, -1, 0, 0.5, 1, 2, 3, 7, 12.5, 40,
    63, 100, 2**31, 2**63, 10**12, 10**400, 1e300,
    math.nan, math.inf, -math.inf, _SQUARE, [_SQUARE], [[1, 2, 3, 4]],
    [[*_SQUARE, 1e12, 1e12]], [[math.nan] * 6], [[1] * 7], [["a"] * 6], _RUNS,
    {"size": [10**9, 10**9], "counts": "04"}, {"size": [48, 64], "counts": "o" * 30 + "0"},
    {"size": [48, 64], "counts": [10**12]}, {"size": [48, 64], "counts": [-1, 3073]},
    {"size": [0, 0], "counts": []}, {"size": [48, 64], "counts": "PPPPPP\x7f"}, {"counts": "04"},
    {"size": [48, 64]}, [0, 0, 1e9, 1e9], [math.nan] * 4, [1, 2, -3, -4], [1, 2, 3],
]  # fmt: skip
_PIPELINE = [
    {"type": "LoadImageFromFile"},
    {"type": "mmdet.LoadAnnotations", "with_bbox": True, "with_mask": True},
    {"type": "mmdet.Resize", "scale": (96, 96)},
]


def annotation_cases(generator: random.Random, count: int) -> Iterator[Case]:
    """Data sets with one to three values exchanged, removed or doubled, at any place."""
    for number in range(count):
        content = _content(generator)
        for _ in range(generator.randint(1, 3)):
            _change(content, generator)
        text = json.dumps(content)
        if generator.random() < 0.1:
            at = generator.randrange(len(text))
            text = text[:at] + generator.choice(["", "[" * 100_000, "\0", "é"]) + text[at + 1 :]
        yield Case(f"annotations {number}", lambda folder, text=text: _read(folder, text))


def _content(generator: random.Random) -> dict[str, Any]:
    masks = [[_SQUARE], [_SQUARE, _SQUARE], _RUNS, {"size": [48, 64], "counts": "P`10P`1"}]
    return {
        "images": [
            {"id": n, "file_name": f"{n}.png", "width": 64, "height": 48} for n in range(1, 4)
        ],
        "categories": [{"id": 1, "name": "a"}, {"id": 2, "name": "b"}],
        "annotations": [
            {
                "id": n,
                "image_id": generator.randint(1, 3),
                "category_id": generator.randint(1, 2),
                "bbox": [10, 10, 20, 20],
                "area": 400,
                "iscrowd": generator.randint(0, 1),
                "segmentation": copy.deepcopy(generator.choice(masks[:3])),
            }
            for n in range(1, 6)
        ],
    }


def _change(content: dict[str, Any], generator: random.Random) -> None:
    node: Any = content
    while True:
        keys = list(node) if isinstance(node, dict) else range(len(node))
        key = generator.choice(keys)
        inner = node[key]
        if not isinstance(inner, dict | list) or not inner or generator.random() < 0.1:
            break
        node = inner
    if generator.random() < 0.1:
        del node[key]
    elif isinstance(node, list) and generator.random() < 0.1:
        node.append(copy.deepcopy(node[key]))
    else:
        alike = [value for value in _VALUES if _kind(value) == _kind(inner)]
        values = alike if alike and generator.random() < 0.7 else _VALUES
        node[key] = copy.deepcopy(generator.choice(values))


def _kind(value: Any) -> type:
    return float if isinstance(value, int) else type(value)


def _read(folder: Path, text: str) -> None:
    """What training and evaluation do with a data set."""
    (folder / "a.json").write_text(text)
    for number in range(1, 4):
        Image.fromarray(np.zeros((48, 64, 3), np.uint8)).save(folder / f"{number}.png")
    read_annotations_safely(
        Config({"default_scope": "mmdet", "train_dataloader": {"with_mask": True}})
    )
    metric = CocoMetric("a.json", metric=["bbox", "segm"])
    metric.dataset_meta = {"classes": ("a", "b")}
    dataset = CocoDataset(
        "a.json",
        metainfo={"classes": ("a", "b")},
        data_prefix={"img": str(folder)},
        pipeline=_PIPELINE,
        serialize_data=False,
    )
    for sample in load_samples(dataset, range(len(dataset))):
        sample["gt_masks"].to_ndarray()
    api = metric._coco_api
    for identity in api.get_ann_ids():
        api.annToMask(api.load_anns([identity])[0])

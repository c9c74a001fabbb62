"""Writing generated scenes as data sets: the command line of ``tools/make_demo_data.py``."""

import json
import sys
from argparse import ArgumentDefaultsHelpFormatter, ArgumentParser
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from dev.demo_data.scenes import CATEGORIES, Scene, draw_scene
from pycocotools.mask import encode
from tqdm import tqdm

CATEGORY_IDS = (1, 2, 4, 7, 9)  # with gaps, as COCO's own have
# labels in ADE20K's files; training ignores the first
OTHER, BACKGROUND, FIRST_CATEGORY = 0, 1, 2
SPLITS = {"train": "training", "val": "validation"}  # and ADE20K's names of them
_JPEG = (cv2.IMWRITE_JPEG_QUALITY, 92)


@dataclass(frozen=True)
class Plan:
    """What a data set is made from; the same plan gives the same scenes.

    Of 16 images one is empty and two have a crowd, beginning with the second and the third.

    Raises:
        ValueError: a number is too small.
    """

    train: int = 400  # images, at least 3
    val: int = 60  # the same
    size: int = 192  # longer side of the images in pixels, at least 32
    seed: int = 0  # of all chance, at least 0

    def __post_init__(self) -> None:
        for name, least in {"train": 3, "val": 3, "size": 32, "seed": 0}.items():
            if getattr(self, name) < least:
                raise ValueError(f"{name} must be at least {least}, not {getattr(self, name)}")

    def scene(self, split: str, index: int) -> Scene:
        """Draw one scene; it depends on seed, size, split and index, not on the counts."""
        rng = np.random.default_rng((self.seed, [*SPLITS].index(split), index))
        shorter = round(self.size * (5 / 6, 3 / 4)[rng.integers(2)])
        shape = (shorter, self.size) if rng.random() < 0.5 else (self.size, shorter)
        return draw_scene(rng, *shape, empty=index % 16 == 1, crowded=index % 8 == 2)

    def scenes(self, split: str) -> Iterator[tuple[int, Scene]]:
        """Draw the scenes of a split, numbered from 1, and show the progress."""
        for index in tqdm(range(getattr(self, split)), split, unit="image"):
            yield index + 1, self.scene(split, index)


def write_coco(root: Path | str, plan: Plan) -> None:
    """Write ``annotations/instances_{train,val}2017.json`` and ``{train,val}2017/*.jpg``.

    Raises:
        FileExistsError: the folder holds anything but what the same plan has made.
    """
    root = _claimed(Path(root), "coco", plan)
    categories = [dict(id=n, name=name) for n, name in zip(CATEGORY_IDS, CATEGORIES, strict=True)]
    for split in SPLITS:
        images, annotations = [], []
        for number, scene in plan.scenes(split):
            name, (height, width) = f"{number:012d}.jpg", scene.image.shape[:2]
            _write(root / f"{split}2017" / name, scene.image[..., ::-1], _JPEG)
            images.append({"id": number, "file_name": name, "height": height, "width": width})
            for entry in coco_annotations(scene):
                annotations.append({"id": len(annotations) + 1, "image_id": number, **entry})
        content = {
            "info": {"description": f"Generated shapes, {split}"},
            "images": images,
            "annotations": annotations,
            "categories": categories,
        }
        (root / "annotations").mkdir(exist_ok=True)
        path = root / "annotations" / f"instances_{split}2017.json"
        path.write_text(json.dumps(content))


def coco_annotations(scene: Scene) -> Iterator[dict[str, Any]]:
    """What is visible of each shape: polygons, of crowds run lengths."""
    for shape, mask in zip(scene.shapes, scene.masks, strict=True):
        pixels = np.asfortranarray(mask, np.uint8)
        segmentation: Any = [polygon.ravel().tolist() for polygon in polygons(pixels)]
        if shape.iscrowd:
            runs = encode(pixels)
            segmentation = {"size": runs["size"], "counts": runs["counts"].decode()}
        yield {
            "category_id": CATEGORY_IDS[shape.category],
            "bbox": [float(side) for side in cv2.boundingRect(pixels)],
            "area": float(mask.sum()),
            "segmentation": segmentation,
            "iscrowd": int(shape.iscrowd),
        }


def polygons(pixels: np.ndarray) -> list[np.ndarray]:
    """The outer outlines of a mask, uint8 (H, W).

    Returns:
        (points, 2) of each connected part of a pixel's area at least, as float x, y in pixels,
        where pixel i covers the interval [i, i + 1].
    """
    # a contour runs through pixel centres; enlarged four times it loses an eighth of a pixel
    enlarged = np.kron(pixels, np.ones((4, 4), np.uint8))
    contours, _ = cv2.findContours(enlarged, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)
    outlines = [cv2.approxPolyDP(contour, 2.0, closed=True) for contour in contours]
    large = [outline for outline in outlines if cv2.contourArea(outline) >= 16]
    return [(outline.reshape(-1, 2) + 0.5) / 4 for outline in large]


def write_ade20k(root: Path | str, plan: Plan) -> None:
    """Write ``{images,annotations}/{training,validation}/ADE_{train,val}_*.{jpg,png}``.

    Raises:
        FileExistsError: the folder holds anything but what the same plan has made.
    """
    root = _claimed(Path(root), "ade20k", plan)
    for split, folder in SPLITS.items():
        for number, scene in plan.scenes(split):
            name = f"ADE_{split}_{number:08d}"
            _write(root / "images" / folder / f"{name}.jpg", scene.image[..., ::-1], _JPEG)
            _write(root / "annotations" / folder / f"{name}.png", label_map(scene))


def label_map(scene: Scene) -> np.ndarray:
    """The labels of a scene's pixels, uint8 (H, W); of crowds "other"."""
    labels = np.full(scene.image.shape[:2], BACKGROUND, np.uint8)
    for shape, mask in zip(scene.shapes, scene.masks, strict=True):
        labels[mask] = OTHER if shape.iscrowd else FIRST_CATEGORY + shape.category
    return labels


def _claimed(root: Path, layout: str, plan: Plan) -> Path:
    """The folder, made if need be, with a record of what it is made from."""
    record = root / "generated.json"
    # the generator's number goes up with every change that draws other scenes
    content = json.dumps({"format": layout, "generator": 1, **asdict(plan)}, indent=2) + "\n"
    there = root.exists() and any(root.iterdir())
    if there and not (record.is_file() and record.read_text() == content):
        raise FileExistsError(
            f"{root} holds something else than this data set: remove it or choose another folder"
        )
    root.mkdir(parents=True, exist_ok=True)
    record.write_text(content)
    return root


def _write(path: Path, pixels: np.ndarray, options: Sequence[int] = ()) -> None:
    """Write an image, (H, W) or in BGR."""
    path.parent.mkdir(parents=True, exist_ok=True)
    # cv2.imwrite tells of a full disk by its return value only
    _, content = cv2.imencode(path.suffix, pixels, options)
    path.write_bytes(content)


def main(argv: list[str] | None = None) -> None:
    """Write both data sets as the arguments say (``sys.argv`` if None)."""
    parser = ArgumentParser(
        description="Make a small data set of coloured shapes, in COCO's format and in ADE20K's.",
        formatter_class=ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument("--out", type=Path, default=Path("data/demo"), help="folder to write to")
    parser.add_argument("--train", type=int, default=400, help="number of training images")
    parser.add_argument("--val", type=int, default=60, help="number of validation images")
    parser.add_argument("--size", type=int, default=192, help="longer side in pixels")
    parser.add_argument("--seed", type=int, default=0, help="seed of all chance")
    args = parser.parse_args(argv)
    try:
        plan = Plan(args.train, args.val, args.size, args.seed)
        write_coco(args.out / "coco", plan)
        write_ade20k(args.out / "ade20k", plan)
    except (OSError, ValueError) as error:
        sys.exit(f"error: {error}")
    print(f"written: {args.out}/coco and {args.out}/ade20k")

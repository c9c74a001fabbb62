"""Looking at what a model is fed: the command line of ``tools/browse_dataset.py``."""

from argparse import ArgumentParser
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from mmengine.config import Config, DictAction
from mmengine.registry import MODELS, init_default_scope
from mmengine.runner import Runner
from torch import Tensor

from xcit_dense.openmmlab.commands.config_files import read_config
from xcit_dense.openmmlab.commands.data_roots import check_data_exists, set_data_root
from xcit_dense.openmmlab.prediction.drawing import draw_prediction
from xcit_dense.openmmlab.prediction.model import Categories, categories_of
from xcit_dense.openmmlab.prediction.results import Prediction, SegmentationMap, from_instances


def make_parser() -> ArgumentParser:
    """The command line."""
    parser = ArgumentParser(
        description="Draw what the model really gets in training: images after all augmentations, "
        "normalization (undone in the pictures) and padding, with their boxes, masks and labels."
    )
    parser.add_argument("config", help="path of the config")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="where pictures go")
    parser.add_argument("--split", choices=["train", "val", "test"], default="train")
    parser.add_argument("--number", type=int, default=20, help="how many images (20)")
    parser.add_argument("--seed", type=int, default=0, help="of order and augmentations (0)")
    parser.add_argument(
        "--data-root", metavar="DIR", help="where the data set is; replaces every data_root"
    )
    parser.add_argument(
        "--cfg-options", nargs="+", action=DictAction, metavar="KEY=VALUE", help="change the config"
    )
    return parser


def main(argv: list[str] | None = None) -> None:
    """Draw as the arguments say (``sys.argv`` if None).

    Raises:
        FileNotFoundError: the config or its data are missing.
        DataError: the config or its data are unusable.
    """
    args = make_parser().parse_args(argv)
    cfg = read_config(args.config, args.cfg_options)
    if args.data_root is not None:
        set_data_root(cfg, args.data_root)
    check_data_exists(cfg, [args.split])
    args.out.mkdir(parents=True, exist_ok=True)
    drawn = 0
    for drawn, (source, picture) in enumerate(
        islice(pictures_of(cfg, args.split, args.seed), args.number), start=1
    ):
        cv2.imwrite(str(args.out / f"{drawn:04d}_{Path(source).stem}.jpg"), picture)
    print(f"{drawn} pictures written to {args.out}")


def pictures_of(cfg: Config, split: str, seed: int) -> Iterator[tuple[str, np.ndarray]]:
    """The images of a split as the model gets them, with their ground truth drawn.

    Args:
        cfg: a config of mmdet or mmseg.
        split: ``train``, ``val`` or ``test``.
        seed: of the order and the augmentations.

    Returns:
        For each image the path of its file and a picture, uint8 (H, W, 3) in blue, green, red.
    """
    init_default_scope(cfg.get("default_scope", "mmdet"))
    torch.manual_seed(seed)
    np.random.seed(seed)
    # in this process: seeds hold, and nothing has to be started for a few pictures
    settings = cfg[f"{split}_dataloader"]
    settings.update(num_workers=0, persistent_workers=False)
    loader = Runner.build_dataloader(settings, seed=seed)
    categories = categories_of(loader.dataset.metainfo, cfg.filename)
    preprocessor = MODELS.build(cfg.model.data_preprocessor)
    red_first = bool(cfg.model.data_preprocessor.get("bgr_to_rgb"))
    for batch in loader:
        fed = preprocessor(batch, split == "train")
        for pixels, sample in zip(fed["inputs"], fed["data_samples"], strict=True):
            image = _to_image(pixels, preprocessor, red_first)
            yield sample.img_path, _with_ground_truth(image, sample, categories)


def _to_image(pixels: Tensor, preprocessor: Any, red_first: bool) -> np.ndarray:
    """Undo the normalization: (C, H, W) -> uint8 (H, W, 3) in blue, green, red."""
    if getattr(preprocessor, "_enable_normalize", False):
        pixels = pixels * preprocessor.std + preprocessor.mean
    pixels = pixels[:3] if len(pixels) >= 3 else pixels[:1].expand(3, -1, -1)
    image = pixels.round().clamp(0, 255).byte().permute(1, 2, 0).numpy()
    return np.ascontiguousarray(image[..., ::-1] if red_first else image)


def _with_ground_truth(image: np.ndarray, sample: Any, categories: Categories) -> np.ndarray:
    truth: list[Prediction] = []
    if "gt_sem_seg" in sample:
        truth.append(SegmentationMap(sample.gt_sem_seg.data[0].numpy()))
    if "gt_instances" in sample and "bboxes" in sample.gt_instances:
        truth.append(from_instances(sample.gt_instances))
    for each in truth:
        image = draw_prediction(image, each, categories)
    return image

"""How good and how costly the ways to predict on images of any size are, on a data set."""

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmengine.config import Config
from mmengine.evaluator import Evaluator
from mmengine.registry import DATASETS

from xcit_dense.large.arrays import ArrayRaster
from xcit_dense.large.pixels import Pixels
from xcit_dense.large.runs import in_coco
from xcit_dense.large.streaming import detect_stream, make_stream, segment_stream
from xcit_dense.large.tiles import detect_tiles, segment_tiles
from xcit_dense.large.ways import Way
from xcit_dense.mm.config import dicts_in, type_name
from xcit_dense.predict.predictor import Predictor
from xcit_dense.predict.results import Detections

_OF_ALL = ("bbox_mAP", "segm_mAP", "mIoU", "mAcc", "aAcc")
_MEMORY = Path("/proc/self/clear_refs"), Path("/proc/self/status")


def evaluate_ways(
    predictor: Predictor, cfg: Config, ways: Sequence[Way], tell: Callable[[Way, int, int], object]
) -> list[dict[str, Any]]:
    """Evaluate each way on the test data of a config, in the images' own resolution.

    Args:
        predictor: of the model.
        cfg: its config.
        ways: which ones.
        tell: is called after each image with the way, the number of images done and of all.

    Returns:
        For each way what it was, its metrics, seconds an image, and the peak of memory in GB: of
        the process, or of the GPU that the model is on; NaN where the system does not tell.

    Raises:
        UserError: the model cannot be run so.
    """
    description = cfg.test_dataloader.dataset
    for _, dataset in dicts_in(description):
        if "pipeline" in dataset:
            dataset.pipeline = [s for s in dataset.pipeline if "Resize" not in type_name(s)]
    dataset = DATASETS.build(description)
    rows = []
    for way in ways:
        evaluator = Evaluator(cfg.test_evaluator)
        evaluator.dataset_meta = dataset.metainfo
        stream = make_stream(predictor, way.side) if way.mode == "stream" else None
        seconds = 0.0
        _lower_peak()
        for index in range(len(dataset)):
            data = dataset[index]
            image = data["inputs"].permute(1, 2, 0).numpy()
            begin = time.perf_counter()
            found = _predict(predictor, stream, image, way)
            seconds += time.perf_counter() - begin
            sample = data["data_samples"].to_dict()
            if isinstance(found, Detections):
                sample["pred_instances"] = _instances(found)
            else:
                sample["pred_sem_seg"] = {"data": torch.from_numpy(found.astype(np.int64))}
            evaluator.process([sample], None)
            tell(way, index + 1, len(dataset))
        metrics = evaluator.evaluate(len(dataset))
        main = {key: value for key, value in metrics.items() if key.endswith(_OF_ALL)}
        cost = {"s/image": seconds / len(dataset), "peak GB": _peak()}
        rows.append({"way": way.told, **(main or metrics), **cost})
    return rows


def _predict(
    predictor: Predictor, stream: Any, image: np.ndarray, way: Way
) -> np.ndarray | Detections:
    """Labels (H, W), or objects with masks in COCO's run lengths."""
    sides = image.shape[:2]
    pixels = Pixels(ArrayRaster("image", lambda: image[..., ::-1], "YXC"))
    tiling = dict(tile=way.side, overlap=way.overlap)
    if not predictor.is_segmentor:
        if stream is None:
            found = detect_tiles(predictor, pixels, **tiling)
        else:
            found = detect_stream(predictor, stream, pixels)
        return in_coco(found, sides)
    if stream is None:
        parts = segment_tiles(predictor, pixels, **tiling)
    else:
        parts = segment_stream(predictor, stream, pixels)
    labels = np.empty(sides, int)
    for part in parts:
        labels[part.window.slices] = part.labels
    return labels


def _instances(found: Detections) -> dict[str, Any]:
    tensors = dict(bboxes=found.boxes, labels=found.labels, scores=found.scores)
    instances = {name: torch.from_numpy(np.asarray(each)) for name, each in tensors.items()}
    return instances if found.masks is None else {**instances, "masks": found.masks}


def _lower_peak() -> None:
    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()
    elif _MEMORY[0].exists():
        _MEMORY[0].write_text("5")  # see proc(5)


def _peak() -> float:
    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated() / 1e9
    if not _MEMORY[0].exists():
        return float("nan")
    lines = dict(line.split(":", 1) for line in _MEMORY[1].read_text().splitlines())
    return 1024 * int(lines["VmHWM"].split()[0]) / 1e9

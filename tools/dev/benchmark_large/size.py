"""Time and peak memory against the size of a raster, in a process for each measurement."""

import time
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import numpy as np
import torch
from dev.benchmark.processes import OwnProcess, ProcessError
from dev.benchmark.run import Size
from dev.benchmark.runner import process_memory
from dev.benchmark_large.accuracy import SIDE
from dev.benchmark_large.ways import Way, predict
from dev.demo_data.scenes import draw_side_by_side
from mmengine.registry import MODELS, init_default_scope
from tqdm import tqdm

from xcit_dense.errors import UserError
from xcit_dense.large.arrays import map_array
from xcit_dense.large.pixels import Pixels
from xcit_dense.mm.config import model_scope, read_config, unsynchronize
from xcit_dense.predict.predictor import Predictor
from xcit_dense.predict.results import Detections

_DRAWN = 512  # pixels a side, repeated
Model = tuple[str, dict[str, Any], str | None, int]
"""A config and changes of it, a checkpoint (None: random weights), and threads of torch."""


class Cost(NamedTuple):
    """Seconds of the CPU, all threads together, and the peak of a process's memory in bytes."""

    seconds: float
    peak: int


class Worker:
    """Loads a model, and predicts on one raster; lives in a process of its own."""

    def __init__(self, config: str, changes: dict, checkpoint: str, threads: int) -> None:
        torch.set_num_threads(threads)
        self._predictor = Predictor(read_config(config, changes), checkpoint)

    def measure(self, raster: Path, way: Way, batch_size: int, scratch: Path) -> Cost:
        """Predict once; what is found is forgotten."""
        start = time.process_time()
        found = predict(self._predictor, Pixels(map_array(raster)), way, batch_size, scratch)
        if not isinstance(found, Detections):
            for _ in found:
                pass
        return Cost(time.process_time() - start, process_memory("VmHWM"))


def measure_sizes(
    sizes: Sequence[Size], ways: Sequence[Way], model: Model, batch_size: int, folder: Path
) -> Iterator[tuple[Size, Way, Cost]]:
    """Predict on rasters of all sizes in every way; rasters and tokens lie in a folder meanwhile.

    Raises:
        UserError: a process failed or died.
    """
    config, changes, checkpoint, threads = model
    with TemporaryDirectory(dir=folder) as name:
        scratch = Path(name)
        if checkpoint is None:
            checkpoint = str(scratch / "random.pth")
            _save_random(config, changes, checkpoint)
        jobs = [(size, way) for size in sizes for way in ways]
        for size, way in tqdm(jobs, unit="prediction"):
            raster = scratch / f"{size}.npy"
            if not raster.exists():
                write_raster(raster, size)
            process = OwnProcess(partial(Worker, config, changes, checkpoint, threads))
            try:
                yield size, way, process.call("measure", raster, way, batch_size, scratch)
            except ProcessError as error:
                raise UserError(f"{size}, {way}: {error}") from error
            finally:
                process.stop()


def write_raster(path: Path, size: Size) -> None:
    """Write scenes side by side, again and again: uint8 (height, width, 3)."""
    image = draw_side_by_side(np.random.default_rng(0), _DRAWN, _DRAWN, SIDE).image
    shape = size.height, size.width, 3
    raster = np.lib.format.open_memmap(path, "w+", np.uint8, shape)
    row = np.tile(image, (1, -(-size.width // _DRAWN), 1))[:, : size.width]
    for top in range(0, size.height, _DRAWN):
        raster[top : top + _DRAWN] = row[: size.height - top]


def _save_random(config: str, changes: dict, path: str) -> None:
    torch.manual_seed(0)
    cfg = read_config(config, changes)
    init_default_scope(model_scope(cfg))
    unsynchronize(cfg.model)
    torch.save(MODELS.build(cfg.model).state_dict(), path)

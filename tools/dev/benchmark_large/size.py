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
from dev.benchmark_large.ways import Way, predict
from dev.demo_data.scenes import draw_side_by_side
from mmengine.registry import MODELS, init_default_scope
from tqdm import tqdm

from xcit_dense.large.arrays import map_array
from xcit_dense.large.pixels import Pixels
from xcit_dense.mm.config import model_scope, read_config, unsynchronize
from xcit_dense.predict.predictor import Predictor
from xcit_dense.predict.results import Detections

_DRAWN = 1024  # pixels a side, repeated


class Cost(NamedTuple):
    """What a prediction took: seconds, those of the CPU (all threads), peak bytes of the process,
    and the bytes that it had before."""

    seconds: float
    cpu_seconds: float
    peak: int
    before: int


class Worker:
    """Loads a model, and predicts on one raster; lives in a process of its own."""

    def __init__(self, config: str, changes: dict[str, Any], checkpoint: str, threads: int) -> None:
        torch.set_num_threads(threads)
        self._predictor = Predictor(read_config(config, changes), checkpoint)

    def measure(self, raster: Path, way: Way, batch_size: int, scratch: Path) -> Cost:
        """Predict once, results are forgotten."""
        pixels = Pixels(map_array(raster))
        before = process_memory("VmRSS")
        start = time.perf_counter(), time.process_time()
        found = predict(self._predictor, pixels, way, batch_size, scratch)
        if not isinstance(found, Detections):
            for _ in found:
                pass
        seconds = time.perf_counter() - start[0], time.process_time() - start[1]
        return Cost(*seconds, process_memory("VmHWM"), before)


def measure_sizes(
    sizes: Sequence[Size],
    ways: Sequence[Way],
    config: str,
    changes: dict[str, Any],
    checkpoint: str | None,
    batch_size: int,
    threads: int,
    folder: Path,
) -> Iterator[tuple[Size, Way, Cost | str]]:
    """Predict on rasters of all sizes in every way; what it took, or why it failed.

    Args:
        sizes, ways: what to measure.
        config, changes: of the model, see :func:`xcit_dense.mm.config.read_config`.
        checkpoint: its weights; None for random ones.
        batch_size: tiles at once.
        threads: of torch.
        folder: of rasters and tokens while it runs.
    """
    with TemporaryDirectory(dir=folder) as scratch:
        if checkpoint is None:
            checkpoint = str(Path(scratch, "random.pth"))
            _save_random(config, changes, checkpoint)
        jobs = [(size, way) for size in sizes for way in ways]
        for size, way in tqdm(jobs, unit="prediction"):
            raster = Path(scratch, f"{size}.npy")
            if not raster.exists():
                write_raster(raster, size)
            make = partial(Worker, config, changes, checkpoint, threads)
            process = OwnProcess(make)
            try:
                yield size, way, process.call("measure", raster, way, batch_size, Path(scratch))
            except ProcessError as error:
                yield size, way, str(error)
            finally:
                process.stop()


def write_raster(path: Path, size: Size) -> None:
    """Write scenes side by side as uint8 (H, W, 3); a small raster of them is repeated."""
    image = draw_side_by_side(np.random.default_rng(0), _DRAWN, _DRAWN, 144).image
    row = np.tile(image, (1, -(-size.width // _DRAWN), 1))[:, : size.width]
    shape = size.height, size.width, 3
    raster = np.lib.format.open_memmap(path, "w+", np.uint8, shape)
    for top in range(0, size.height, _DRAWN):
        raster[top : top + _DRAWN] = row[: size.height - top]


def _save_random(config: str, changes: dict[str, Any], path: str) -> None:
    torch.manual_seed(0)
    cfg = read_config(config, changes)
    init_default_scope(model_scope(cfg))
    unsynchronize(cfg.model)
    torch.save(MODELS.build(cfg.model).state_dict(), path)

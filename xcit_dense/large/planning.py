"""What streaming a raster will take, told before it begins: tokens, memory, disk, time."""

import os
import shutil
import time
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from xcit_dense.engine import Source
from xcit_dense.errors import UserError
from xcit_dense.large.streaming import make_stream
from xcit_dense.predict.predictor import Predictor

_PIXELS = 2**20  # of a band that is timed; a raster of fewer than eight of them is soon done


def plan_stream(
    predictor: Predictor, source: Source, window: int | None, memory: float | None, folder: Path
) -> Any:
    """Make the stream of a model whose tokens lie where they fit, and tell what it will take.

    Args:
        predictor: of the model.
        source: what it sees.
        window: as for :func:`make_stream`.
        memory: gigabytes that tokens and moments may take; None for half of what is free.
        folder: where the tokens lie in a file, which has no name there, if they are more.

    Raises:
        UserError: they fit nowhere.
    """
    stream = make_stream(predictor, window)
    padded, engine = stream.padded(source), stream.engine
    limit = free_memory(engine.device) // 2 if memory is None else memory * 1e9
    (height, width), tokens = engine.grid(padded), engine.size_of_tokens(padded)
    cells, moments = engine.size_of_moments(padded)
    place = "memory"
    if tokens + moments > limit:
        place, free = str(folder), shutil.disk_usage(folder).free
        if tokens > free:
            raise UserError(
                f"the tokens take {_told(tokens)}, more than the memory, {_told(limit)} "
                f"(--memory), and the disk of {folder}, where {_told(free)} are free: name another "
                "folder by --out, or predict in tiles (--mode tiles)"
            )
        stream = make_stream(predictor, window, folder)
    of_cells = f", moments of {cells:,} cells {_told(moments)} in memory" if cells > 1 else ""
    print(f"  {height * width:,} tokens take {_told(tokens)} in {place}{of_cells}", flush=True)
    return stream


def expected_time(predictor: Predictor, stream: Any, source: Source) -> timedelta | None:
    """How long a stream will take, by a band from the middle; None where that is not long."""
    rows = max(64, _PIXELS // source.width // 64 * 64)
    if source.height < 8 * rows:
        return None
    band = _Band(source, (source.height - rows) // 2, rows)
    start = time.perf_counter()
    with predictor.autocast():
        if predictor.is_segmentor:
            for _ in stream.labels(band):
                pass
        else:
            stream.instances(band)
    seconds = (time.perf_counter() - start) * source.height / rows
    return timedelta(seconds=round(seconds))


def free_memory(device: torch.device) -> int:
    """Bytes that are free on a device."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    try:
        with open("/proc/meminfo") as file:
            kilobytes = next(line.split()[1] for line in file if line.startswith("MemAvailable"))
    except OSError:  # not Linux; of all that there is
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return 1024 * int(kilobytes)


def _told(size: float) -> str:
    return f"{size / 1e9:.1f} GB" if size >= 1e8 else f"{size / 1e6:.1f} MB"


class _Band:
    """Some rows of a source."""

    def __init__(self, source: Source, top: int, height: int) -> None:
        self._source, self._top = source, top
        self.height, self.width = height, source.width

    def read(self, first: int, last: int) -> Tensor:
        """See :class:`xcit_dense.engine.Source`."""
        return self._source.read(self._top + first, self._top + last)

    def valid(self, first: int, last: int) -> Tensor | None:
        """See :class:`xcit_dense.engine.Source`."""
        return self._source.valid(self._top + first, self._top + last)

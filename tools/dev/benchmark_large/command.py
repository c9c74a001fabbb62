"""Measures what predictions on large images cost, and how good they are, by the ways to predict.

Usage: python tools/benchmark_large.py accuracy CONFIG CHECKPOINT --context 144
       python tools/benchmark_large.py size
       python tools/benchmark_large.py size CONFIG CHECKPOINT --context 512 --sizes 16384
"""

import argparse
import shlex
import sys
from collections.abc import Iterator
from pathlib import Path

import torch
from dev.benchmark.command import size as read_size
from dev.benchmark.report import describe_machine, markdown_table
from dev.benchmark_large.accuracy import measure_accuracy
from dev.benchmark_large.picture import draw_seams
from dev.benchmark_large.size import measure_sizes
from dev.benchmark_large.ways import Way

from xcit_dense.atomic_files import write_atomically
from xcit_dense.errors import UserError
from xcit_dense.mm.config import CONFIG_HELP, add_config_changes, read_config
from xcit_dense.predict.outputs import write_picture
from xcit_dense.predict.predictor import Predictor

# a model that is light enough for large rasters on two cores
_LIGHT_CONFIG = "configs/demo/xcit_upernet_demo.py"
_LIGHT = {
    "model.backbone.arch": "nano_12",
    "model.backbone.patch_size": 16,
    "model.decode_head.in_channels": [128] * 4,
    "model.decode_head.channels": 32,
    "model.auxiliary_head": None,
}


def main(arguments: list[str] | None = None) -> None:
    """Measure as the arguments say (``sys.argv`` if None), print the table and write it."""
    options = make_parser().parse_args(arguments)
    torch.set_num_threads(options.threads)
    command = shlex.join(["python", *sys.argv] if arguments is None else arguments)
    head = f"`{command}`, {describe_machine('cpu')}, {options.threads} threads"
    path = options.out / f"{options.part}.md"
    try:
        options.out.mkdir(parents=True, exist_ok=True)
        for table in (_accuracy if options.part == "accuracy" else _size)(options):
            content = f"{head}\n\n{table}\n"
            write_atomically(path, lambda file, text=content: file.write(text.encode()))
    except (UserError, OSError) as error:
        sys.exit(f"error: {error}")
    print(f"{content}\nwritten: {path}")


def make_parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parts = parser.add_subparsers(dest="part", required=True)
    accuracy = parts.add_parser("accuracy", help="on large generated scenes, and time")
    add = accuracy.add_argument
    add("config", help=CONFIG_HELP)
    add("checkpoint", help="trained on the data of tools/make_demo_data.py")
    add("--context", type=int, required=True, help="pixels that it was trained at; also of tiles")
    add("--seeds", type=int, default=5, help="scenes of each kind")
    add("--size", type=int, default=720, help="side of the scenes in pixels")
    add("--picture", type=Path, help="also draw where tiles leave seams; .jpg, of a segmentor")
    size = parts.add_parser("size", help="time and peak memory against the size of rasters")
    add = size.add_argument
    add("config", nargs="?", help=f"{CONFIG_HELP}; if not said, a light one")
    add("checkpoint", nargs="?", help="if not said, weights are random")
    add("--context", type=int, default=512, help="pixels; also of tiles")
    sizes = [read_size(text) for text in ("2048x4096", "4096x4096", "8192x4096")]
    add("--sizes", nargs="+", type=read_size, default=sizes, help="SIDE or HEIGHTxWIDTH")
    for part in (accuracy, size):
        add_config_changes(part)
        part.add_argument("--batch-size", type=int, default=8, help="tiles at once")
        part.add_argument("--threads", type=int, default=torch.get_num_threads(), help="of torch")
        part.add_argument("--out", type=Path, default=Path("work_dirs/benchmark_large"))
    return parser


def _accuracy(options: argparse.Namespace) -> Iterator[str]:
    """The table; times are relative to the last way, tiles with half an overlap."""
    predictor = Predictor(read_config(options.config, options.cfg_options), options.checkpoint)
    side = options.context
    if options.picture:
        write_picture(options.picture, draw_seams(predictor, side))
    ways = [Way(), Way(side), Way(2 * side), Way(None, side), Way(None, side, side // 2)]
    scores = measure_accuracy(predictor, ways, options.seeds, options.size, options.batch_size)
    rows = []
    for score in scores:
        reference = [other.seconds for other in scores if other.kind == score.kind][-1]
        metrics = score.metrics()
        numbers = [f"{value:.3f}" for value in metrics.values()]
        times = f"{score.seconds:.1f}", f"{score.seconds / reference:.2f}x"
        rows.append([score.kind, str(score.way), *numbers, *times])
    yield markdown_table(["scenes", "way", *metrics, "CPU s", "relative"], rows)


def _size(options: argparse.Namespace) -> Iterator[str]:
    """The table after each measurement; ratios are to tiles, and to the first size."""
    config, changes = options.config, options.cfg_options or {}
    if config is None:
        config, changes = _LIGHT_CONFIG, {**_LIGHT, **changes}
    ways = [Way(None, options.context), Way(options.context), Way()]
    costs, rows = {}, []
    model = config, changes, options.checkpoint, options.threads
    measured = measure_sizes(options.sizes, ways, model, options.batch_size, options.out)
    for size, way, cost in measured:
        costs[size, way] = cost
        of_tiles, of_first = costs[size, ways[0]], costs[options.sizes[0], way]
        numbers = [
            f"{cost.seconds:.0f}",
            f"{cost.seconds / of_tiles.seconds:.2f}x",
            f"{cost.peak / 1e6:.0f}",
            f"{cost.peak / of_first.peak:.2f}x",
        ]
        rows.append([str(size), str(way), *numbers])
        titles = ["size", "way", "CPU s", "to tiles", "peak MB", "to the first size"]
        yield markdown_table(titles, rows)

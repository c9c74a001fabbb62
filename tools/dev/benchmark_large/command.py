"""Measures what predictions on large images cost, and how good they are, by the ways to predict.

Usage: python tools/benchmark_large.py accuracy CONFIG CHECKPOINT --context 144
       python tools/benchmark_large.py size --sizes 2048x4096 4096x4096
       python tools/benchmark_large.py size CONFIG CHECKPOINT --context 512 --sizes 8192
"""

import argparse
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

import torch
from dev.benchmark.command import size as read_size
from dev.benchmark.report import describe_machine, markdown_table
from dev.benchmark.run import Size
from dev.benchmark_large.accuracy import Score, measure_accuracy
from dev.benchmark_large.picture import draw_seams
from dev.benchmark_large.size import Cost, measure_sizes
from dev.benchmark_large.ways import Way

from xcit_dense.atomic_files import write_atomically
from xcit_dense.errors import UserError
from xcit_dense.mm.config import CONFIG_HELP, add_config_changes, read_config
from xcit_dense.predict.outputs import write_picture
from xcit_dense.predict.predictor import Predictor

# a model that is light enough for large rasters on two cores
LIGHT_CONFIG = "configs/demo/xcit_upernet_demo.py"
LIGHT = {
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
    options.out.mkdir(parents=True, exist_ok=True)
    command = shlex.join(sys.argv if arguments is None else ["benchmark_large.py", *arguments])
    head = f"Made by `python {command}`, {describe_machine('cpu')}, {options.threads} threads.\n\n"

    def write(table: str) -> None:
        path = options.out / f"{options.part}.md"
        write_atomically(path, lambda file: file.write(f"{head}{table}\n".encode()))

    try:
        table = (_accuracy if options.part == "accuracy" else _size)(options, write)
    except (UserError, OSError) as error:
        sys.exit(f"error: {error}")
    print(f"{head}{table}\n\nwritten: {options.out}/{options.part}.md")


def make_parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parts = parser.add_subparsers(dest="part", required=True)
    accuracy = parts.add_parser("accuracy", help="on generated scenes, and time")
    accuracy.add_argument("config", help=CONFIG_HELP)
    accuracy.add_argument("checkpoint", help="trained on tools/make_demo_data.py's data")
    accuracy.add_argument("--context", type=int, required=True, help="pixels it was trained at")
    accuracy.add_argument("--seeds", type=int, default=5, help="scenes of each kind")
    accuracy.add_argument("--size", type=int, default=720, help="side of the scenes in pixels")
    accuracy.add_argument("--side", type=int, default=144, help="of what they are made of")
    accuracy.add_argument(
        "--picture", type=Path, help="of a segmentor: where tiles leave seams, .jpg"
    )
    size = parts.add_parser("size", help="time and peak memory against the size of rasters")
    size.add_argument("config", nargs="?", help=f"{CONFIG_HELP}; without it a light one")
    size.add_argument("checkpoint", nargs="?", help="without it weights are random")
    size.add_argument("--context", type=int, default=512, help="side of contexts and of tiles")
    size.add_argument(
        "--sizes",
        nargs="+",
        type=read_size,
        default=[Size(2048, 4096), Size(4096, 4096), Size(8192, 4096)],
        help="SIDE or HEIGHTxWIDTH",
    )
    for part in (accuracy, size):
        add_config_changes(part)
        part.add_argument("--batch-size", type=int, default=4, help="tiles at once")
        part.add_argument("--threads", type=int, default=torch.get_num_threads(), help="of torch")
        part.add_argument("--out", type=Path, default=Path("work_dirs/benchmark_large"))
    return parser


def _accuracy(options: argparse.Namespace, write) -> str:
    predictor = Predictor(read_config(options.config, options.cfg_options), options.checkpoint)
    if options.picture:
        write_picture(options.picture, draw_seams(predictor, options.context, options.side))
    tile = options.context
    ways = [Way(), Way(tile), Way(2 * tile), Way(None, tile), Way(None, tile, tile // 2)]
    scores = measure_accuracy(
        predictor, ways, options.seeds, options.size, options.side, options.batch_size
    )
    table = accuracy_table(scores)
    write(table)
    return table


def accuracy_table(scores: Sequence[Score]) -> str:
    """A row for each kind of scenes and way; times relative to the last way of the kind."""
    rows = []
    for score in scores:
        reference = [other for other in scores if other.kind == score.kind][-1]
        numbers = [f"{value:.3f}" for value in score.metrics().values()]
        time = [f"{score.seconds:.1f}", f"{score.seconds / reference.seconds:.2f}x"]
        rows.append([score.kind, str(score.way), *numbers, *time])
    return markdown_table(["scenes", "way", *scores[0].metrics(), "CPU s", "relative"], rows)


def _size(options: argparse.Namespace, write) -> str:
    config, changes = options.config, options.cfg_options or {}
    if config is None:
        config, changes = LIGHT_CONFIG, {**LIGHT, **changes}
    ways = [Way(), Way(options.context), Way(None, options.context)]
    found = []
    for row in measure_sizes(
        options.sizes,
        ways,
        config,
        changes,
        options.checkpoint,
        options.batch_size,
        options.threads,
        options.out,
    ):
        found.append(row)
        table = size_table(found)
        write(table)
    return table


def size_table(found: Sequence[tuple[Size, Way, Cost | str]]) -> str:
    """A row for each size and way; ratios are to tiles of the size, and to the first size."""
    costs = {(size, way): cost for size, way, cost in found if isinstance(cost, Cost)}
    rows = []
    for size, way, cost in found:
        if isinstance(cost, str):
            rows.append([str(size), str(way), cost, "", "", "", ""])
            continue
        of_tiles = next((c for (s, w), c in costs.items() if s == size and w.tile), None)
        of_first = costs.get((found[0][0], way))
        rows.append(
            [
                str(size),
                str(way),
                f"{cost.seconds:.0f}",
                f"{cost.cpu_seconds:.0f}",
                f"{cost.cpu_seconds / of_tiles.cpu_seconds:.2f}x" if of_tiles else "",
                f"{cost.peak / 1e6:.0f}",
                f"{cost.peak / of_first.peak:.2f}x" if of_first else "",
            ]
        )
    titles = ["size", "way", "s", "CPU s", "to tiles", "peak MB", "to the first size"]
    return markdown_table(titles, rows)

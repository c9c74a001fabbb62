"""Measures memory and time of the masks of a large image, as mm makes them and one by one.

Usage: python tools/benchmark_masks.py --height 4000 --width 6000 --instances 100
"""

from __future__ import annotations

import argparse
import sys

from dev.benchmark.mask_heads import HEADS
from dev.benchmark.mask_memory import WAYS, MaskTask, measure_in_own_process, report


def main(arguments: list[str] | None = None) -> int:
    """Measures each way in a process of its own and prints a table."""
    parser = argparse.ArgumentParser(
        description=__doc__.splitlines()[0],
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument("--height", type=int, default=4000, help="rows of the image")
    parser.add_argument("--width", type=int, default=6000, help="columns of the image")
    parser.add_argument("--instances", type=int, default=100, help="number of masks")
    parser.add_argument(
        "--heads",
        nargs="+",
        choices=HEADS,
        default=["Mask R-CNN"],
        help="what predicts the masks, or a class map of as many classes; mm's way on "
        "6000 x 4000 pixels needs 480 MB a mask with Mask2Former, 120 MB with SOLOv2 and "
        "100 MB a class",
    )
    options = parser.parse_args(arguments)
    for head in options.heads:
        try:
            task = MaskTask(options.height, options.width, options.instances, head=head)
        except ValueError as error:
            parser.error(str(error))
        costs = {way: measure_in_own_process(way, task) for way in WAYS}
        print(report(costs, task), end="\n\n", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())

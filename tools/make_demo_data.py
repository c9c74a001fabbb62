"""Makes a small data set of coloured shapes, in COCO's format and in ADE20K's.

Usage: python tools/make_demo_data.py --out data/demo --train 400 --val 60 --size 192 --seed 0
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable
from pathlib import Path

from dev.demo_data import Plan, Scene, write_ade20k, write_coco


def parse_arguments(arguments: list[str] | None = None) -> tuple[argparse.Namespace, Plan]:
    """Reads the command line; bad values end the program with a message."""
    parser = argparse.ArgumentParser(
        description=__doc__.splitlines()[0],
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument("--out", type=Path, default=Path("data/demo"), help="folder to write to")
    parser.add_argument("--train", type=int, default=400, help="number of training images")
    parser.add_argument("--val", type=int, default=60, help="number of validation images")
    parser.add_argument("--size", type=int, default=192, help="longer side in pixels")
    parser.add_argument("--seed", type=int, default=0, help="seed of all chance")
    parser.add_argument(
        "--overwrite", action="store_true", help="replace a data set made with other parameters"
    )
    options = parser.parse_args(arguments)
    try:
        plan = Plan(options.train, options.val, options.size, options.seed)
    except ValueError as error:
        parser.error(str(error))
    return options, plan


def show_progress(scenes: Iterable[Scene], description: str, total: int) -> Iterable[Scene]:
    """Shows a bar where tqdm is installed, otherwise a line at the start."""
    try:
        from tqdm import tqdm
    except ImportError:
        print(f"{description}: {total} images ...", flush=True)
        return scenes
    return tqdm(scenes, desc=description, total=total, unit="image")


def main(arguments: list[str] | None = None) -> int:
    """Writes both formats and prints where they are."""
    options, plan = parse_arguments(arguments)
    for name, write in (("coco", write_coco), ("ade20k", write_ade20k)):
        folder = options.out / name
        try:
            written = write(folder, plan, overwrite=options.overwrite, progress=show_progress)
        except OSError as error:
            print(f"error: {error}", file=sys.stderr)
            return 1
        print(f"{'written' if written else 'kept, as it has the same parameters'}: {folder}")
    return 0


if __name__ == "__main__":
    sys.exit(main())

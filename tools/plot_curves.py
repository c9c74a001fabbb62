"""Draws the training curves of a work folder and prints its last evaluation.

Usage: python tools/plot_curves.py work_dirs/xcit_maskrcnn_coco
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from xcit_dense.training_curves import (
    draw_curves,
    find_scalar_log,
    last_evaluation,
    metrics_table,
    read_training_log,
)


def parse_arguments(arguments: list[str] | None = None) -> argparse.Namespace:
    """Reads the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("work_dir", type=Path, help="work folder of a training run")
    parser.add_argument(
        "-o", "--out", type=Path, help="picture to write (default: WORK_DIR/curves.png)"
    )
    return parser.parse_args(arguments)


def main(arguments: list[str] | None = None) -> int:
    """Draws the curves of the newest run and prints where the picture is."""
    options = parse_arguments(arguments)
    target = options.out or options.work_dir / "curves.png"
    try:
        log_path = find_scalar_log(options.work_dir)
        log = read_training_log(log_path)
        draw_curves(log, target, title=f"{options.work_dir.resolve().name}, {log_path.parts[-3]}")
    except (OSError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(metrics_table(last_evaluation(log)))
    print(f"\nread:    {log_path}\nwritten: {target}")
    return 0


if __name__ == "__main__":
    sys.exit(main())

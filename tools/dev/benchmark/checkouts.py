"""Times this checkout's backbone, another checkout's and the published arithmetic in one run.

Usage: git worktree add ../before COMMIT
       python tools/compare_checkouts.py ../before inference:224x224 training:512x512x2
       python tools/compare_checkouts.py ../before --patch-size 8 inference:512x512
       python tools/compare_checkouts.py ../before --threads 1 --busy inference:800x1344

Published is timm's XCiT with this checkout's pyramid.
"""

import argparse
import multiprocessing
from dataclasses import replace
from pathlib import Path

from dev.benchmark.command import measure
from dev.benchmark.contenders import CONTENDERS, MODES
from dev.benchmark.options import add_settings, size
from dev.benchmark.run import Size

_HERE = Path(__file__).resolve().parents[3]


def job(text: str) -> tuple[str, Size]:
    """Read ``MODE:HEIGHTxWIDTH[xIMAGES]``."""
    mode, _, rest = text.partition(":")
    if mode not in MODES:
        raise argparse.ArgumentTypeError(f"{text!r}: {mode!r} is none of {', '.join(MODES)}")
    return mode, size(rest)


def checkout(text: str) -> Path:
    """Read the path of a folder with the package."""
    path = Path(text).resolve()
    if not (path / "xcit_dense").is_dir():
        raise argparse.ArgumentTypeError(f"{text!r} is no checkout: it has no folder xcit_dense")
    return path


def keep_busy() -> None:
    """Leave a core no rest."""
    while True:
        sum(range(1_000_000))


def main(arguments: list[str] | None = None) -> None:
    """Measure what the arguments say (``sys.argv`` if None)."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("other", type=checkout, help="a second checkout")
    parser.add_argument("jobs", nargs="+", type=job, help="MODE:HxW or MODE:HxWxIMAGES")
    parser.add_argument("--busy", action="store_true", help="another process keeps one core busy")
    add_settings(parser, out="work_dirs/checkouts")
    options = parser.parse_args(arguments)
    if options.busy:
        multiprocessing.Process(target=keep_busy, daemon=True).start()
    contenders = [
        replace(CONTENDERS["timm_xcit"], name="published", checkout=_HERE),
        replace(CONTENDERS["xcit_auto"], name="other", checkout=options.other),
        replace(CONTENDERS["xcit_auto"], name="this", checkout=_HERE),
    ]
    measure(contenders, options.jobs, ["published", "other"], options)

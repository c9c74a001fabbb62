"""Times this checkout's backbone, another checkout's and the published arithmetic in one run.

Usage: git worktree add ../before COMMIT
       python tools/compare_checkouts.py ../before inference:224x224 training:512x512x2
       python tools/compare_checkouts.py ../before --patch-size 8 inference:512x512
       python tools/compare_checkouts.py ../before --threads 1 --busy inference:800x1344

Published is timm's XCiT with this checkout's pyramid. A job has both time and memory: memory:HxW is
another word for inference:HxW.
"""

import argparse
import multiprocessing
from dataclasses import replace
from pathlib import Path

from dev.benchmark.contenders import CONTENDERS, INFERENCE, MODES
from dev.benchmark.options import count, size
from dev.benchmark.report import describe_machine, report
from dev.benchmark.run import run_benchmark
from dev.benchmark.worker import Size

_HERE = Path(__file__).resolve().parents[3]


def job(text: str) -> tuple[str, Size]:
    """Read ``MODE:HEIGHTxWIDTH[xIMAGES]``."""
    mode, _, rest = text.partition(":")
    if mode not in (*MODES, "memory"):
        raise argparse.ArgumentTypeError(f"{text!r}: {mode!r} is none of {MODES} or memory")
    return INFERENCE if mode == "memory" else mode, size(rest)


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
    """Print Markdown tables."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("other", type=checkout, help="a second checkout")
    parser.add_argument("jobs", nargs="+", type=job, help="MODE:HxW or MODE:HxWxIMAGES")
    parser.add_argument("--arch", default="small_12")
    parser.add_argument("--patch-size", type=int, choices=(8, 16), default=16)
    parser.add_argument("--threads", type=count, default=2)
    parser.add_argument("--busy", action="store_true", help="another process keeps one core busy")
    parser.add_argument("--repeats", type=count, default=7)
    options = parser.parse_args(arguments)
    if options.busy:
        multiprocessing.Process(target=keep_busy, daemon=True).start()
    contenders = [
        replace(CONTENDERS["timm_xcit"], name="published", checkout=_HERE),
        replace(CONTENDERS["xcit_auto"], name="other", checkout=options.other),
        replace(CONTENDERS["xcit_auto"], name="this", checkout=_HERE),
    ]
    sizes = {mode: [size for name, size in options.jobs if name == mode] for mode in MODES}
    settings = dict(arch=options.arch, patch_size=options.patch_size, threads=options.threads)
    runs = run_benchmark(contenders, sizes, options.repeats, print, **settings)
    rows = [row for found in runs for row in found]
    print("", *(f"{name}: {value}" for name, value in settings.items()), sep="\n")
    print(f"{describe_machine('cpu')}\n\n{report(rows, ['published', 'other'])}")

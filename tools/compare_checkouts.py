"""Times this checkout's backbone, another checkout's and the published arithmetic in one run.

Usage: git worktree add ../before COMMIT
       python tools/compare_checkouts.py ../before inference:224x224 inference:800x1344
       python tools/compare_checkouts.py ../before --patch-size 8 inference:512x512
       python tools/compare_checkouts.py ../before --threads 1 inference:800x1344
       python tools/compare_checkouts.py ../before --busy inference:800x1344
       python tools/compare_checkouts.py ../before training:512x512x2 memory:2048x2048

Each contender has a process of its own; they take turns, and medians count. Published is timm's
XCiT with this checkout's pyramid. Memory is the peak of the process beyond what it had before.
"""

import argparse
import json
import multiprocessing
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parents[1]


class Contender:
    """A process that imports ``xcit_dense`` from a checkout and runs what it is told to."""

    def __init__(self, checkout: Path, kind: str, options: argparse.Namespace) -> None:
        command = [sys.executable, "-W", "ignore", __file__, "--serve", kind, options.arch]
        self.process = subprocess.Popen(
            [*command, str(options.patch_size), str(options.threads)],
            env={**os.environ, "PYTHONPATH": str(checkout)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def ask(self, job: list[Any]) -> float:
        """Run a job: seconds, or bytes."""
        self.process.stdin.write(json.dumps(job) + "\n")
        self.process.stdin.flush()
        answer = self.process.stdout.readline()
        if not answer:
            raise SystemExit("a contender died; its own message stands above")
        return float(answer)


def serve(kind: str, arch: str, patch_size: str, threads: str) -> None:
    """Answer every job on standard input with a number."""
    import torch
    from dev.benchmark.builders import timm_xcit, xcit
    from dev.benchmark.peak_memory import measure_peak_memory

    torch.set_num_threads(int(threads))
    torch.manual_seed(0)
    if kind == "published":
        model = timm_xcit(arch, int(patch_size))
    else:
        model = xcit(arch, int(patch_size), attention="auto")

    def run() -> float:
        start = time.perf_counter()
        levels = model(image)
        if training:
            sum(level.square().mean() for level in levels).backward()
        return time.perf_counter() - start

    for line in sys.stdin:
        mode, height, width, batch = json.loads(line)
        training = mode == "training"
        model.train(training).zero_grad(set_to_none=True)
        image = torch.randn(batch, 3, height, width)
        with torch.set_grad_enabled(training):
            print(measure_peak_memory(run)[0].bytes if mode == "memory" else run(), flush=True)


def keep_busy() -> None:
    """Leave a core no rest."""
    while True:
        sum(range(1_000_000))


def main() -> None:
    """Print a Markdown table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("other", type=Path, help="a second checkout")
    parser.add_argument("jobs", nargs="+", help="MODE:HxW or MODE:HxWxBATCH")
    parser.add_argument("--arch", default="small_12")
    parser.add_argument("--patch-size", type=int, default=16)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--busy", action="store_true", help="another process keeps one core busy")
    parser.add_argument("--repeats", type=int, default=7)
    options = parser.parse_args()
    if not (options.other / "xcit_dense").is_dir():
        parser.error(f"{options.other} is no checkout: it has no folder xcit_dense")
    if options.busy:
        multiprocessing.Process(target=keep_busy, daemon=True).start()
    contenders = {
        "published": Contender(HERE, "published", options),
        "other": Contender(options.other.resolve(), "xcit", options),
        "this": Contender(HERE, "xcit", options),
    }
    print(f"{options.arch}, patch size {options.patch_size}, {options.threads} threads\n")
    print("| | published | other | this | this against published | against other |")
    print("|---|---:|---:|---:|---:|---:|")
    for text in options.jobs:
        mode, _, size = text.partition(":")
        height, width, batch = (*map(int, size.split("x")), 1)[:3]
        rounds = [
            [contender.ask([mode, height, width, batch]) for contender in contenders.values()]
            for _ in range(options.repeats + 1)
        ][1:]
        published, other, this = (statistics.median(column) for column in zip(*rounds, strict=True))
        scale, unit = (1e-6, "MB") if mode == "memory" else (1e3, "ms")
        cells = [f"{value * scale:.0f} {unit}" for value in (published, other, this)]
        ratios = [f"{value / this:.2f}x" for value in (published, other)]
        print(f"| {text} | {' | '.join(cells + ratios)} |", flush=True)
    for contender in contenders.values():
        contender.process.kill()


if __name__ == "__main__":
    if sys.argv[1:2] == ["--serve"]:
        serve(*sys.argv[2:])
    else:
        main()

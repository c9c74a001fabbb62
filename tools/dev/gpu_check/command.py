"""Checks the network on a GPU, times it beside other backbones, and writes what was found.

One command of at most eight minutes; needs torch and timm. What needs OpenMMLab is left out, and
said so, where that is missing.

Usage: python tools/gpu_check.py --out work_dirs/gpu_check
       python tools/gpu_check.py --device cpu --quick
"""

import argparse
import time
import traceback
import warnings
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import torch
from dev.benchmark.command import device
from dev.benchmark.contenders import CONTENDERS, INFERENCE, TRAINING
from dev.benchmark.report import describe_machine, markdown_table, report
from dev.benchmark.run import Size, run_benchmark
from dev.gpu_check.network_checks import compiler_checks, network_checks

from xcit_dense.atomic_files import write_atomically
from xcit_dense.errors import in_one_line

PASS, FAIL, NOT_RUN = "pass", "FAIL", "not run"
# after these seconds no check, and no timing of another size, is begun
SECONDS_OF_CHECKS, SECONDS = 210, 400

_PLAIN = ("timm_xcit", "xcit_direct", "xcit_gram", "resnet50")
_COMPILED = ("timm_xcit_compiled", "xcit_compiled")
_IMAGE, _IMAGES = Size(800, 1344), Size(800, 1344, 8)
_JOBS = [(INFERENCE, _IMAGE), (INFERENCE, _IMAGES), (TRAINING, _IMAGES)]
# contenders (ratios are to the first), dtype, jobs; in the order of interest: time may be up
TIMINGS = [
    (_PLAIN, "bf16", [*_JOBS, (INFERENCE, Size(4096, 4096))]),
    (_COMPILED, "bf16", _JOBS[1:]),
    (_PLAIN, "fp32", _JOBS),
]
QUICK_TIMINGS = [(_PLAIN[:2], "bf16", [(INFERENCE, Size(64, 96))])]


def all_checks(device: str, quick: bool) -> Iterator[tuple[str, Callable | None]]:
    """Names and functions, those that take the longest last; None where a library is missing."""
    yield from network_checks(device, "shallow" if quick else "small_12")
    try:
        from dev.gpu_check.openmmlab_checks import openmmlab_checks
    except ImportError as error:
        yield f"what needs OpenMMLab: {in_one_line(error)}", None
    else:
        yield from openmmlab_checks(device)
    yield from compiler_checks(device, "aot_eager" if quick else "inductor")


def run_check(name: str, function: Callable | None) -> Iterator[list[str]]:
    """Make a check, unless there is none; cells of a row for everything that it found."""
    if function is None:
        yield [NOT_RUN, name, "-", "-", "-"]
        return
    try:
        for what, value, bound in function():
            yield [PASS if value <= bound else FAIL, name, what, f"{value:.2g}", f"{bound:.2g}"]
    except Exception as error:  # whatever is wrong, the other checks are made
        traceback.print_exc()
        yield [FAIL, name, in_one_line(error), "-", "-"]


def run_timings(device: str, quick: bool) -> Iterator[str]:
    """Tables of what was timed so far, each time it is more."""
    settings = dict(arch="nano_12" if quick else "small_12", patch_size=16, device=device)
    done = []
    for names, dtype, jobs in QUICK_TIMINGS if quick else TIMINGS:
        contenders = [replace(CONTENDERS[name], dtype=dtype) for name in names]
        rows = []
        for found in run_benchmark(contenders, jobs, 5, **settings):
            rows += found
            yield "\n".join([*done, report(rows, [contenders[0].label])])
        done.append(report(rows, [contenders[0].label]))


def main(arguments: list[str] | None = None) -> int:
    """Check, time and write gpu_check.md; 1 if a check failed."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--device", type=device, default="cuda")
    parser.add_argument("--quick", action="store_true", help="tiny models and images")
    parser.add_argument("--out", type=Path, default=Path("work_dirs/gpu_check"))
    options = parser.parse_args(arguments)
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    warnings.simplefilter("ignore")
    start, rows = time.monotonic(), []

    def write(timings: str = "") -> None:
        checks = markdown_table(["result", "check", "of", "measured", "allowed"], rows)
        content = f"# {describe_machine(options.device)}\n\n{checks}\n\n{timings}".encode()
        write_atomically(options.out / "gpu_check.md", lambda file: file.write(content))

    for name, function in all_checks(options.device, options.quick):
        is_late = time.monotonic() - start > SECONDS_OF_CHECKS
        for row in run_check(name, None if is_late else function):
            print(*row, sep=", ", flush=True)
            rows.append(row)
        write()
    for timings in run_timings(options.device, options.quick):
        write(timings)
        if time.monotonic() - start > SECONDS:
            break
    failed = [row[1] for row in rows if row[0] == FAIL]
    print(f"failed: {', '.join(failed)}" if failed else "no check failed", f"in {options.out}")
    return 1 if failed else 0

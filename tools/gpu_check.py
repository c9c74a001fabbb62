"""Checks the network on a GPU, times it beside other backbones, and writes what was found.

One command of a few minutes for a machine with a GPU; needs torch and timm. What needs OpenMMLab
is reported as not run where that is missing.

Usage: python tools/gpu_check.py --out work_dirs/gpu_check
       python tools/gpu_check.py --device cpu --quick
"""

from __future__ import annotations

import argparse
import gc
import json
import platform
import sys
import time
import traceback
import warnings
from collections.abc import Callable
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import Any

import torch

sys.path.insert(0, str(Path(__file__).parents[1]))  # on a borrowed machine nothing is installed

try:
    import xcit_dense
except ImportError as error:  # half of OpenMMLab is worse than none of it
    print(f"without OpenMMLab: {error}", file=sys.stderr)
    sys.modules["mmengine"] = None
    import xcit_dense

from dev.benchmark.gpu_checks import NotRun, compiler_checks, network_checks
from dev.benchmark.gpu_mm_checks import openmmlab_checks
from dev.benchmark.gpu_models import Setup
from dev.benchmark.gpu_timing import (
    COMPILED,
    INFERENCE,
    TRAINING,
    Row,
    Timer,
    is_out_of_memory,
    rows,
)
from dev.benchmark.machine import MachineRunner
from dev.benchmark.markdown import markdown_table
from dev.benchmark.torch_settings import TorchSettings

from xcit_dense.atomic_files import write_atomically

PASS, FAIL, NOT_RUN, SKIPPED = "pass", "FAIL", "not run", "skipped"
# Checks may use this share of the time; the rest is for the timings.
CHECKS_SHARE = 0.5
NO_TIME = "the time was up"
DTYPE_NAMES = {"bf16": "bf16 by autocast", "bf16w": "bf16 weights", "fp32": "fp32 without TF32"}


class Check:
    """One run: what was found so far, the time that is left, and where both are written.

    Args:
        setup: what is checked and where.
        seconds: after this time nothing new is begun.
        out: folder to write to.
    """

    def __init__(self, setup: Setup, seconds: float, out: Path) -> None:
        self.setup, self.seconds, self.out = setup, seconds, out
        self.start = time.monotonic()
        self.checks: list[dict[str, Any]] = []
        self.timings: list[dict[str, Any]] = []
        self.machine: dict[str, Any] = {}
        self.written = 0.0
        self.command = " ".join(sys.argv)

    def elapsed(self) -> float:
        """Seconds since the start."""
        return time.monotonic() - self.start

    def note(self, text: str) -> None:
        """Print a line with the time."""
        print(f"[{self.elapsed():6.1f} s] {text}", flush=True)

    def describe_machine(self) -> None:
        """Name the machine and measure what it can do at most."""
        runner = MachineRunner(TorchSettings(self.setup.device, tf32=False))
        self.machine = runner.describe()
        self.machine["device"] = self.machine.get("GPU", self.machine["CPU"])
        self.machine["platform"] = platform.platform()
        self.machine["xcit_dense"] = xcit_dense.__version__
        for name in ("torchvision", "timm", "triton", "mmcv", "mmdet", "mmseg"):
            self.machine[name] = _version(name)
        self.note(f"device: {self.machine['device']}")
        self.write()  # before minutes of work: can we write there at all?

    def measure_machine(self) -> None:
        """Measure what the device can do at most; without it there are times, but no shares."""
        if self.elapsed() > self.seconds:
            return
        runner = MachineRunner(TorchSettings(self.setup.device, tf32=False))
        try:
            for dtype in ("bf16", "fp32"):
                rate = runner.gemm_rates(dtype).fastest
                self.machine[f"flops_per_second_{dtype}"] = rate
                self.note(f"limit: {rate / 1e12:.3g} TFLOP/s in {dtype}")
            self.machine["bytes_per_second"] = runner.bandwidth()
            self.note(f"limit: {self.machine['bytes_per_second'] / 1e9:.0f} GB/s copied")
        except Exception:
            traceback.print_exc()

    def run_checks(self) -> None:
        """Make all checks; none of them stops another."""
        gc.freeze()
        kinds = (network_checks, openmmlab_checks, compiler_checks)
        for name, function in chain.from_iterable(kind(self.setup) for kind in kinds):
            begin = self.elapsed()
            found = {"name": name, "value": None, "bound": None, "note": ""}
            if begin > CHECKS_SHARE * self.seconds:
                found.update(result=SKIPPED, note=NO_TIME)
            else:
                found.update(self._judge(function))
            found["seconds"] = self.elapsed() - begin
            self.checks.append(found)
            value = "" if found["value"] is None else f"{found['value']:.3g}, "
            self.note(f"{found['result']}: {name}: {value}{found['note']}")
            self.write(often=True)

    def _judge(self, function: Callable) -> dict[str, Any]:
        try:
            value, bound, text = function()
        except NotRun as error:
            return dict(result=NOT_RUN, note=_one_line(error))
        except Exception as error:
            traceback.print_exc()
            return dict(result=FAIL, note=f"raised {type(error).__name__}: {_one_line(error)}")
        finally:
            self._release()
        return dict(result=PASS if value <= bound else FAIL, value=value, bound=bound, note=text)

    def run_timings(self) -> None:
        """Time all rows for which there is time."""
        timer = Timer(self.setup)
        # what the last row of its kind took is what the next one may take
        kinds = {INFERENCE: 3.0, TRAINING: 6.0, f"compiled {INFERENCE}": 30.0}
        kinds[f"compiled {TRAINING}"] = 60.0
        failed: set[str] = set()
        gc.collect()
        gc.freeze()  # the libraries stay anyway: looking through them after each row takes long
        for row in rows(self.setup):
            compiles = COMPILED in row.run and not timer.has_compiled(row)
            kind = f"compiled {row.mode}" if compiles else row.mode
            begin = self.elapsed()
            compiled = str(replace(row, run=COMPILED))
            if COMPILED in row.run and compiled in failed:
                result: dict[str, Any] = {"result": "error", "note": "as without CUDA graph"}
            elif begin + kinds[kind] > self.seconds:
                result = {"result": SKIPPED, "note": NO_TIME}
            else:
                result = self._time(timer, row)
                kinds[kind] = max(self.elapsed() - begin, kinds[kind] / 2)
            if compiles and result["result"] == "error":
                failed.add(compiled)
            self.timings.append({**vars(row), **result})
            timed = f"{result['ms']:.2f} ms" if "ms" in result else result["note"]
            self.note(f"{result['result']}: {row}: {timed}")
            self.write(often=True)

    def _time(self, timer: Timer, row: Row) -> dict[str, Any]:
        try:
            found = timer.measure(row)
        except Exception as error:
            if is_out_of_memory(error):
                return {"result": "out of memory", "note": "out of memory"}
            traceback.print_exc()
            return {"result": "error", "note": f"{type(error).__name__}: {_one_line(error)}"}
        finally:
            # only here the exception, and with it what the row had allocated, is gone
            self._release()
        seconds, dtype = found["ms"] / 1e3, row.dtype.removesuffix("w")
        limits = {
            "share_of_matrix_limit": ("gflop", f"flops_per_second_{dtype}"),
            "share_of_copy_limit": ("gbyte", "bytes_per_second"),
        }
        for share, (work, limit) in limits.items():
            if limit in self.machine:
                found[share] = found[work] * 1e9 / seconds / self.machine[limit]
        return {"result": "timed", "note": "", **found}

    def _release(self) -> None:
        gc.collect()
        if self.setup.device == "cuda":
            torch.cuda.empty_cache()

    def write(self, often: bool = False) -> None:
        """Write what is known so far, for a run that is killed; if ``often``, only now and then."""
        if often and self.elapsed() < self.written + 5:
            return
        self.written = self.elapsed()
        content = {
            "command": self.command,
            "arch": self.setup.arch,
            "seconds": self.elapsed(),
            "machine": self.machine,
            "checks": self.checks,
            "timings": self.timings,
        }
        texts = {"gpu_check.json": json.dumps(content, indent=1), "gpu_check.md": self.markdown()}
        for name, text in texts.items():
            data = text.encode()
            write_atomically(self.out / name, lambda file, data=data: file.write(data))

    def markdown(self) -> str:
        """A table of the checks and one of timings for each mode and dtype."""
        machine = [
            f"- {name}: {value:.3g}" if isinstance(value, float) else f"- {name}: {value}"
            for name, value in self.machine.items()
        ]
        results = [check["result"] for check in self.checks]
        counts = ", ".join(f"{results.count(r)} {r}" for r in (PASS, FAIL, NOT_RUN, SKIPPED))
        titles = ["check", "result", "measured", "bound", "seconds", "note"]
        cells = [
            [
                c["name"],
                c["result"],
                _number(c["value"], ".2e"),
                _number(c["bound"], ".1e"),
                _number(c["seconds"], ".1f"),
                c["note"],
            ]
            for c in self.checks
        ]
        parts = [
            f"# XCiT on {self.machine.get('device', self.setup.device)}",
            "\n".join(machine),
            f"## Checks: {counts}",
            markdown_table(titles, cells),
            f"## Times of {self.setup.arch}, patch size 16",
            "Medians. Training is forward and backward without an optimizer. Peak memory is "
            "without weights and image. Operations and bytes are those of the plain model's "
            "operations one by one (training: three times the products of inference); the shares "
            "are of what a large product and a large copy reach here, so that a compiled model, "
            "which moves less, may seem to move more than the memory can. ResNet-50 and ConvNeXt-T "
            "are in channels-last.",
        ]
        tables: dict[str, list[dict]] = {}
        for timing in self.timings:
            title = f"### {timing['mode'].capitalize()}, {DTYPE_NAMES[timing['dtype']]}"
            tables.setdefault(title, []).append(timing)
        for title, timings in tables.items():
            timings = sorted(timings, key=lambda t: -t["batch"] * t["height"] * t["width"])
            parts += [title, _timing_table(timings)]
        return "\n\n".join(parts) + "\n"


def _timing_table(timings: list[dict[str, Any]]) -> str:
    titles = ["contender", "run", "images", "ms", "Mpixel/s", "bytes a pixel", "GFLOP"]
    titles += ["of products", "of copies", "set up in s", "note"]
    formats = {"ms": ".2f", "megapixels_per_second": ".1f", "bytes_per_pixel": ".0f"}
    formats |= {"gflop": ".4g", "share_of_matrix_limit": ".0%", "share_of_copy_limit": ".0%"}
    formats |= {"setup_seconds": ".1f"}
    cells = [
        [t["contender"], t["run"], f"{t['batch']}x{t['height']}x{t['width']}"]
        + [_number(t.get(key), spec) for key, spec in formats.items()]
        + [t["note"]]
        for t in timings
    ]
    return markdown_table(titles, cells)


def _number(value: float | None, spec: str) -> str:
    return "-" if value is None else format(value, spec)


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split())[:200]


def _version(name: str) -> str:
    try:
        return str(getattr(__import__(name), "__version__", "unknown"))
    except Exception:  # a library may also refuse a version of another
        return "not there"


def main(arguments: list[str] | None = None) -> int:
    """Check, time and write; 1 if a check failed."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--device", choices=("cuda", "cpu"), default="cuda")
    add("--quick", action="store_true", help="the smallest model and tiny images")
    add("--out", type=Path, default=Path("work_dirs/gpu_check"), help="folder to write to")
    add("--seconds", type=float, default=480.0, help="nothing new is begun after this time")
    options = parser.parse_args(arguments)
    if options.device == "cuda" and not torch.cuda.is_available():
        print("error: torch finds no CUDA device; use --device cpu", file=sys.stderr)
        return 2
    warnings.simplefilter("ignore")
    check = Check(Setup(options.device, options.quick), options.seconds, options.out)
    try:
        check.describe_machine()
        check.measure_machine()
        check.run_checks()
        check.run_timings()
    except KeyboardInterrupt:
        check.note("interrupted")
    check.write()
    failed = [found["name"] for found in check.checks if found["result"] == FAIL]
    check.note(f"written: gpu_check.json and gpu_check.md in {options.out}")
    check.note(f"failed: {', '.join(failed)}" if failed else "no check failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())

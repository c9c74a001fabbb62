"""Measures time and memory of XCiT, the published arithmetic and other backbones, side by side.

Usage: python tools/benchmark.py --out work_dirs/benchmark
       python tools/benchmark.py --quick
       python tools/benchmark.py --contenders xcit_auto:bf16 timm_xcit --sizes 512 800x1344
"""

import argparse
import dataclasses
import json
import shlex
import sys
import time
from pathlib import Path

from dev.benchmark.contenders import CONTENDERS, DTYPES, INFERENCE, TRAINING
from dev.benchmark.options import contender, count, device, size
from dev.benchmark.plot import draw
from dev.benchmark.report import describe_machine, report
from dev.benchmark.run import run_benchmark

from xcit_dense.atomic_files import write_atomically
from xcit_dense.network import ARCHS

STANDARD = """
    --contenders xcit_auto xcit_gram xcit_direct timm_xcit resnet50 swin_tiny convnext_tiny pvtv2_b2
    --sizes 224 512 800x1344 2048 4096 --training-sizes 224x224x2 512x512x2 800x1344x2 --repeats 5
"""
QUICK = """
    --contenders xcit_auto xcit_direct timm_xcit resnet50
    --sizes 224 512 --training-sizes 224x224x2 --repeats 2
"""


def main(arguments: list[str] | None = None) -> None:
    """Measure, print the tables and write table.md, results.json and time_and_memory.png."""
    given = sys.argv[1:] if arguments is None else arguments
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog=f"Contenders: {', '.join(CONTENDERS)}; without options:{STANDARD}",
    )
    add = parser.add_argument
    add("--out", type=Path, default=Path("work_dirs/benchmark"), help="folder to write to")
    add("--quick", action="store_true", help="few contenders and sizes, for a look")
    add("--contenders", nargs="+", type=contender, help="NAME or NAME:DTYPE")
    add("--modes", nargs="+", choices=(INFERENCE, TRAINING), default=(INFERENCE, TRAINING))
    add("--sizes", nargs="+", type=size, help="of inference: SIDE or HEIGHTxWIDTH[xIMAGES]")
    add("--training-sizes", nargs="+", type=size, help="the same for the training step")
    add("--arch", choices=ARCHS, default="small_12", help="of XCiT")
    add("--patch-size", type=int, choices=(8, 16), default=16, help="of XCiT")
    add("--dtype", choices=DTYPES, default="fp32", help="of who has none; others by autocast")
    add("--device", type=device, default="cpu", help="cpu or cuda")
    add("--threads", type=count, help="of torch on the CPU (default: torch's choice)")
    add("--repeats", type=count, help="timed runs of each contender at each size")
    defaults = shlex.split(QUICK if "--quick" in given else STANDARD)
    options = parser.parse_args([*defaults, *given])  # what is given comes last, and counts

    contenders = [
        dataclasses.replace(CONTENDERS[name], dtype=dtype or options.dtype)
        for name, dtype in dict.fromkeys(options.contenders)
    ]
    references = [one.label for one in contenders if one.name == "timm_xcit"]
    references += [contenders[0].label]
    what = f"XCiT {options.arch}, patch size {options.patch_size}"
    title = f"{what}, {describe_machine(options.device)}"
    start, rows = time.monotonic(), []

    def note(text: str) -> None:
        print(f"[{time.monotonic() - start:6.1f} s] {text}", file=sys.stderr, flush=True)

    def write(name: str, content: str) -> None:
        write_atomically(options.out / name, lambda file: file.write(content.encode()))

    try:
        write("results.json", "[]")  # before hours of work: can we write there at all?
    except OSError as error:
        parser.error(f"--out {options.out}: {error}")
    sizes = {INFERENCE: options.sizes, TRAINING: options.training_sizes}
    for found in run_benchmark(
        contenders,
        {mode: sorted(set(sizes[mode])) for mode in options.modes},
        options.repeats,
        note,
        arch=options.arch,
        patch_size=options.patch_size,
        device=options.device,
        threads=options.threads,
    ):
        rows += found
        tables = report(rows, references[:1])
        command = shlex.join(["python", "tools/benchmark.py", *given])
        write("table.md", f"# {title}\n\nMade by `{command}`. {tables}")
        write("results.json", json.dumps([dataclasses.asdict(row) for row in rows], indent=1))
        write_atomically(options.out / "time_and_memory.png", draw(rows, title).savefig)
    print(tables)
    note(f"written: table.md, results.json and time_and_memory.png in {options.out}")

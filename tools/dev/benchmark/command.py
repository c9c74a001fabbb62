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
from collections.abc import Sequence

from dev.benchmark.contenders import CONTENDERS, DTYPES, INFERENCE, MODES, TRAINING, Contender
from dev.benchmark.options import add_settings, size
from dev.benchmark.plot import draw
from dev.benchmark.report import describe_machine, report
from dev.benchmark.run import Size, run_benchmark

from xcit_dense.atomic_files import write_atomically

STANDARD = """
    --contenders xcit_auto xcit_gram xcit_direct timm_xcit resnet50 swin_tiny convnext_tiny pvtv2_b2
    --sizes 224 512 800x1344 2048 4096 --training-sizes 224x224x2 512x512x2 800x1344x2
"""
QUICK = """
    --contenders xcit_auto xcit_direct timm_xcit resnet50
    --sizes 224 512 --training-sizes 224x224x2 --repeats 2
"""
LABELS = [*CONTENDERS, *(f"{name}:{dtype}" for name in CONTENDERS for dtype in DTYPES)]


def main(arguments: list[str] | None = None) -> None:
    """Measure what the arguments say (``sys.argv`` if None)."""
    given = sys.argv[1:] if arguments is None else arguments
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog=f"Contenders: {', '.join(CONTENDERS)}; without options:{STANDARD}",
    )
    add = parser.add_argument
    add("--quick", action="store_true", help="few contenders and sizes, for a look")
    add("--contenders", nargs="+", choices=LABELS, metavar="NAME[:DTYPE]")
    add("--modes", nargs="+", choices=MODES, default=MODES)
    add("--sizes", nargs="+", type=size, help="of inference: SIDE or HEIGHTxWIDTH[xIMAGES]")
    add("--training-sizes", nargs="+", type=size, help="the same for the training step")
    add("--dtype", choices=DTYPES, default="fp32", help="of who has none; others by autocast")
    add_settings(parser, out="work_dirs/benchmark")
    defaults = shlex.split(QUICK if "--quick" in given else STANDARD)
    options = parser.parse_args([*defaults, *given])  # what is given comes last, and counts

    contenders = []
    for label in dict.fromkeys(options.contenders):
        name, _, dtype = label.partition(":")
        contenders.append(dataclasses.replace(CONTENDERS[name], dtype=dtype or options.dtype))
    published = [one.label for one in contenders if one.name == "timm_xcit"]
    sizes = {INFERENCE: options.sizes, TRAINING: options.training_sizes}
    jobs = [(mode, size) for mode in options.modes for size in sorted(set(sizes[mode]))]
    measure(contenders, jobs, [*published, contenders[0].label][:1], options)


def measure(
    contenders: Sequence[Contender],
    jobs: Sequence[tuple[str, Size]],
    references: Sequence[str],
    options: argparse.Namespace,
) -> None:
    """Measure, print the tables and write table.md, results.json and time_and_memory.png.

    Args:
        contenders: whom to measure.
        jobs: modes and sizes.
        references: labels of contenders that the others are compared with.
        options: of :func:`add_settings`.
    """
    settings = {name: vars(options)[name] for name in ("arch", "patch_size", "device", "threads")}
    machine = describe_machine(options.device)
    title = f"XCiT {options.arch}, patch size {options.patch_size}, {machine}"
    rows = []

    def write(name: str, content: str) -> None:
        write_atomically(options.out / name, lambda file: file.write(content.encode()))

    try:
        write("results.json", "[]")  # before hours of work: can we write there at all?
    except OSError as error:
        sys.exit(f"--out {options.out}: {error}")
    for found in run_benchmark(contenders, jobs, options.repeats, **settings):
        rows += found
        tables = report(rows, references)
        write("table.md", f"# {title}\n\nMade by `{shlex.join(sys.argv)}`. {tables}")
        write("results.json", json.dumps([dataclasses.asdict(row) for row in rows], indent=1))
        write_atomically(options.out / "time_and_memory.png", draw(rows, title).savefig)
    print(f"{title}\n\n{tables}")
    print(f"written: table.md, results.json and time_and_memory.png in {options.out}")

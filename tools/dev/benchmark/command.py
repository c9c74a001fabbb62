"""Measures time and memory of XCiT, the published arithmetic and other backbones, side by side.

Usage: python tools/benchmark.py --out work_dirs/benchmark
       python tools/benchmark.py --quick
       python tools/benchmark.py --contenders xcit_auto:bf16 timm_xcit --sizes 512 800x1344

       git worktree add ../before COMMIT  # compares two commits
       python tools/benchmark.py --contenders timm_xcit xcit_auto@../before xcit_auto
"""

import argparse
import dataclasses
import json
import re
import shlex
import sys
from pathlib import Path

import torch
from dev.benchmark.contenders import CONTENDERS, DTYPES, INFERENCE, MODES, TRAINING, Contender
from dev.benchmark.report import describe_machine, draw, report
from dev.benchmark.run import Size, run_benchmark

from xcit_dense.atomic_files import write_atomically
from xcit_dense.network import ARCHS

STANDARD = """
    --contenders xcit_auto xcit_gram xcit_direct timm_xcit resnet50 swin_tiny convnext_tiny pvtv2_b2
    --sizes 224 512 800x1344 2048 4096 --training-sizes 224x224x2 512x512x2 800x1344x2
"""
QUICK = """
    --contenders xcit_auto xcit_direct timm_xcit resnet50
    --sizes 224 512 --training-sizes 224x224x2 --repeats 2
"""


def main(arguments: list[str] | None = None) -> None:
    """Measure as the arguments say (``sys.argv`` if None), and print the tables.

    Writes table.md, results.json and time_and_memory.png.
    """
    given = sys.argv[1:] if arguments is None else arguments
    defaults = shlex.split(QUICK if "--quick" in given else STANDARD)
    options = make_parser().parse_args([*defaults, *given])  # what is given comes last, and counts
    contenders = [
        dataclasses.replace(one, dtype=one.dtype or options.dtype) for one in options.contenders
    ]
    contenders = list(dict.fromkeys(contenders))
    sizes = {INFERENCE: options.sizes, TRAINING: options.training_sizes}
    jobs = [(mode, size) for mode in options.modes for size in sorted(set(sizes[mode]))]
    references = [one.label for one in contenders if one.name == "timm_xcit" or one.checkout]
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
        tables = report(rows, references or [contenders[0].label])
        write("table.md", f"# {title}\n\nMade by `{shlex.join(sys.argv)}`. {tables}")
        write("results.json", json.dumps([dataclasses.asdict(row) for row in rows], indent=1))
        write_atomically(options.out / "time_and_memory.png", draw(rows, title).savefig)
    print(f"{title}\n\n{tables}")
    print(f"written: table.md, results.json and time_and_memory.png in {options.out}")


def make_parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog=f"Contenders: {', '.join(CONTENDERS)}; without options:{STANDARD}",
    )
    add = parser.add_argument
    add("--quick", action="store_true", help="few contenders and sizes, for a look")
    add("--contenders", nargs="+", type=contender, metavar="NAME[:DTYPE][@CHECKOUT]")
    add("--modes", nargs="+", choices=MODES, default=MODES)
    add("--sizes", nargs="+", type=size, help="of inference: SIDE or HEIGHTxWIDTH[xIMAGES]")
    add("--training-sizes", nargs="+", type=size, help="the same for the training step")
    add("--dtype", choices=DTYPES, default="fp32", help="of who has none; others by autocast")
    add("--out", type=Path, default=Path("work_dirs/benchmark"), help="folder to write to")
    add("--arch", choices=ARCHS, default="small_12", help="of XCiT")
    add("--patch-size", type=int, choices=(8, 16), default=16, help="of XCiT")
    add("--device", type=device, default="cpu", help="cpu or cuda")
    add("--threads", type=int, help="of torch on the CPU (default: torch's choice)")
    add("--repeats", type=int, default=5, help="timed runs of each contender at each size")
    return parser


def contender(text: str) -> Contender:
    """Read ``NAME[:DTYPE][@CHECKOUT]``; without a type it is empty."""
    label, _, folder = text.partition("@")
    name, _, dtype = label.partition(":")
    if name not in CONTENDERS or dtype not in ("", *DTYPES):
        raise argparse.ArgumentTypeError(
            f"{text!r}: NAME is one of {', '.join(CONTENDERS)}, and DTYPE of {', '.join(DTYPES)}"
        )
    if folder and not (Path(folder) / "xcit_dense").is_dir():
        raise argparse.ArgumentTypeError(f"{folder!r} is no checkout: it has no folder xcit_dense")
    checkout = Path(folder) if folder else None
    return dataclasses.replace(CONTENDERS[name], dtype=dtype, checkout=checkout)


def size(text: str) -> Size:
    """Read ``512`` (a square), ``800x1344`` (height, width) or ``800x1344x2`` (and images)."""
    match = re.fullmatch(r"([1-9]\d*)(?:x([1-9]\d*)(?:x([1-9]\d*))?)?", text)
    if not match:
        raise argparse.ArgumentTypeError(f"{text!r}: write 512, 800x1344 or 800x1344x2 (images)")
    return Size(int(match[1]), int(match[2] or match[1]), int(match[3] or 1))


def device(text: str) -> str:
    """Read ``cpu`` or ``cuda``."""
    if text not in ("cpu", "cuda"):
        raise argparse.ArgumentTypeError(f"{text!r} is neither cpu nor cuda")
    if text == "cuda" and not torch.cuda.is_available():
        raise argparse.ArgumentTypeError("torch finds no CUDA device: use --device cpu")
    return text

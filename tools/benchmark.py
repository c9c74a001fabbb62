"""Measures time and memory of XCiT, the published arithmetic and other backbones, side by side.

Usage: python tools/benchmark.py --out work_dirs/benchmark
       python tools/benchmark.py --quick
       python tools/benchmark.py --contenders xcit_auto:bf16 timm_xcit --sizes 512 800x1344
"""

from __future__ import annotations

import argparse
import shlex
import sys
import time
from pathlib import Path

from dev.benchmark import (
    CONTENDERS,
    DTYPES,
    INFERENCE,
    MODES,
    TRAINING,
    Plan,
    Results,
    WorkerError,
    draw,
    parse_contenders,
    parse_sizes,
    report,
    run_benchmark,
)

from xcit_dense.atomic_files import write_atomically

STANDARD = {
    "contenders": "xcit_auto xcit_gram xcit_direct timm_xcit resnet50 swin_tiny convnext_tiny "
    "pvtv2_b2",
    "sizes": "224 512 800x1344 2048 4096",
    "training_sizes": "224 512 800x1344",
    "repeats": 5,
}
QUICK = {
    "contenders": "xcit_auto xcit_direct timm_xcit resnet50",
    "sizes": "224 512",
    "training_sizes": "224",
    "repeats": 2,
}
TF32 = {"default": None, "on": True, "off": False}


def parse_arguments(arguments: list[str] | None = None) -> tuple[argparse.Namespace, Plan]:
    """Reads the command line; bad values end the program with a message."""
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="contenders: " + ", ".join(CONTENDERS),
    )
    add = parser.add_argument
    add("--out", type=Path, default=Path("work_dirs/benchmark"), help="folder to write to")
    add("--quick", action="store_true", help="few contenders and sizes, for a look in two minutes")
    add("--contenders", nargs="+", help="NAME[+compile][:DTYPE] ..., or all")
    add("--compile", action="store_true", help="every XCiT also through torch.compile")
    add("--reference", default="timm_xcit", help="the contender that ratios refer to")
    add("--modes", nargs="+", choices=MODES, default=MODES)
    add("--sizes", nargs="+", help="for inference: HEIGHTxWIDTH or one side, in pixels")
    add("--training-sizes", nargs="+", help="the same for the training step")
    add("--batch-size", type=int, default=1, help="images of inference")
    add("--training-batch-size", type=int, default=2, help="images of a training step")
    add("--arch", default="small_12", help="XCiT architecture")
    add("--patch-size", type=int, default=16, help="of XCiT, 8 or 16")
    add("--dtype", default="fp32", help=f"{', '.join(DTYPES)}; others than fp32 by autocast")
    add("--device", default="cpu", help="cpu or cuda")
    add("--threads", type=int, help="of torch on the CPU (default: torch's choice)")
    add("--tf32", choices=TF32, default="default", help="round fp32 products on CUDA to TF32")
    add("--repeats", type=int, help="timed runs of each contender at each size")
    add("--seconds-per-run", type=float, default=120.0, help="skip what is predicted to take more")
    add("--memory-limit", type=float, metavar="GIB", help="default: 85%% of what is available")
    options = parser.parse_args(arguments)
    for name, standard in (QUICK if options.quick else STANDARD).items():
        if getattr(options, name) is None:
            setattr(options, name, standard.split() if isinstance(standard, str) else standard)
    try:
        return options, make_plan(options)
    except ValueError as error:
        parser.error(str(error))


def make_plan(options: argparse.Namespace) -> Plan:
    """The plan that the options ask for.

    Raises:
        ValueError: an option has a value that cannot be measured.
    """
    limit = options.memory_limit
    return Plan(
        contenders=parse_contenders(options.contenders, options.compile),
        reference=options.reference,
        modes=tuple(mode for mode in MODES if mode in options.modes),
        sizes={
            INFERENCE: parse_sizes(options.sizes),
            TRAINING: parse_sizes(options.training_sizes),
        },
        batch_sizes={INFERENCE: options.batch_size, TRAINING: options.training_batch_size},
        arch=options.arch,
        patch_size=options.patch_size,
        dtype=options.dtype,
        device=options.device,
        threads=options.threads,
        tf32=TF32[options.tf32],
        repeats=options.repeats,
        seconds_per_run=options.seconds_per_run,
        memory_limit=None if limit is None else int(limit * 2**30),
    )


def main(arguments: list[str] | None = None) -> int:
    """Measures, prints the tables and writes results.json, table.md and time_and_memory.png."""
    options, plan = parse_arguments(arguments)
    given = sys.argv[1:] if arguments is None else arguments
    results = Results(
        command=shlex.join(["python", "tools/benchmark.py", *given]),
        reference=plan.reference,
        settings={"XCiT": f"{plan.arch}, patch size {plan.patch_size}", "dtype": plan.dtype},
    )
    start = time.monotonic()

    def note(text: str) -> None:
        print(f"[{time.monotonic() - start:6.1f} s] {text}", file=sys.stderr, flush=True)

    def save() -> None:
        for name, text in (("results.json", results.as_json()), ("table.md", report(results))):
            content = text.encode()
            write_atomically(options.out / name, lambda file, content=content: file.write(content))

    try:
        save()  # before hours of work: can we write there at all?
        run_benchmark(plan, results, note, after_size=save)
    except KeyboardInterrupt:
        note("interrupted; what was measured until now:")
    except (OSError, WorkerError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(report(results))
    draw(results, options.out / "time_and_memory.png")
    note(f"written: results.json, table.md and time_and_memory.png in {options.out}")
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""Trying the swap on all of mm's configs: the command line of ``tools/check_swap_coverage.py``."""

import warnings
from argparse import ArgumentParser, Namespace
from pathlib import Path

from dev.swap_coverage.table import coverage_document
from dev.swap_coverage.walk import read_record, walk

from xcit_dense.atomic_files import write_atomically


def make_parser() -> ArgumentParser:
    """The command line."""
    parser = ArgumentParser(description="How many of mm's own configs take XCiT.")
    commands = parser.add_subparsers(required=True)

    walking = commands.add_parser(
        "walk",
        help="swap the backbone of every config of the installed mmdet and mmseg; build and run "
        "the swapped model of one config of each family",
    )
    walking.add_argument(
        "record", type=Path, help="file for the results; families that it has are not tried again"
    )
    walking.add_argument("--only", nargs="+", metavar="FAMILY", help="such as mmdet/retinanet")
    walking.add_argument("--seconds", type=float, default=900, help="how long a family may take")
    walking.set_defaults(run=_walk)

    writing = commands.add_parser("table", help="write a document of what was found")
    writing.add_argument("out", type=Path, help="Markdown file")
    writing.add_argument(
        "records", nargs="+", metavar="NAME=RECORD", help="such as openmmlab=a.jsonl onedl=b.jsonl"
    )
    writing.set_defaults(run=_write_table)
    return parser


def main(argv: list[str] | None = None) -> None:
    """Do as the arguments say (``sys.argv`` if None)."""
    args = make_parser().parse_args(argv)
    args.run(args)


def _walk(args: Namespace) -> None:
    warnings.simplefilter("ignore")  # mm's own, in hundreds of models
    for outcome in walk(args.record, args.seconds, args.only):
        name = f"{outcome.package}/{outcome.family}"
        what = outcome.model or outcome.reason
        print(f"{name}: {outcome.result}: {outcome.config} {what}", flush=True)


def _write_table(args: Namespace) -> None:
    records = dict(record.split("=", 1) for record in args.records)
    stacks = {name: read_record(Path(record)) for name, record in records.items()}
    document = coverage_document(stacks)
    write_atomically(args.out, lambda file: file.write(document.encode()))

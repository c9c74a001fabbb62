"""How many of mm's own configs take XCiT: all are tried, and a document says so."""

import json
import multiprocessing
import os
import re
import warnings
from argparse import ArgumentParser
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass, field
from pathlib import Path

import torch
from mmengine.config import Config

from xcit_dense.doctor import diagnose
from xcit_dense.errors import in_one_line
from xcit_dense.mm.config import PACKAGES, configs_of, dicts_in, type_name
from xcit_dense.swap import SwapError, plan_swap
from xcit_dense.swap.levels import BoundBackboneError

CHECKED, DECLINED, FAILED = "checked", "declined", "failed"
# of whoever runs this, or of whoever built a package
_FOLDERS = re.compile(r"(?<![\w.:/])/(?:[\w.+-]+/)+")
_PREAMBLE = """# Which of mm's own models take XCiT

Written by `tools/check_swap_coverage.py`, not by hand: every config that the installed mmdet and
mmseg bring along is rewritten by the swap, and of each family (a folder of configs) the swapped
model of one config is built with XCiT-N12/16, trained for a step and run once, on random images.

- **checked**: it learns and predicts, all weights get gradients, strides and widths are declared.
- **declined**: for the reason given, or it fails with its own backbone too, in this environment.
- **failed**: it should have worked.

A family has no backbone to swap where that is the whole model (UNet, BiSeNet, ...), or where there
is none; the shares are of the others.

| | families | with a backbone | checked | declined | failed | configs rewritten | declined |
|---|---|---|---|---|---|---|---|"""


@dataclass
class Outcome:
    """What became of a family; ``bound`` of the declined configs have no backbone to swap."""

    package: str
    family: str
    rewritten: int = 0
    declined: list[str] = field(default_factory=list)
    bound: int = 0
    result: str = DECLINED
    model: str = ""
    reason: str = ""


def families_of(package: str) -> dict[str, list[Path]]:
    """The configs that a package brings along, by folder; parts of configs aside."""
    root = configs_of(package)
    families: dict[str, list[Path]] = {}
    for path in sorted(root.glob("*/**/*.py")):
        parts = path.relative_to(root).parts
        if not {"_base_", "common"} & set(parts):
            families.setdefault(parts[0], []).append(path)
    return families


def try_family(package: str, family: str, paths: list[Path]) -> Outcome | None:
    """Rewrite all configs, run swapped models until one can be judged; None if none has a model."""
    torch.set_num_threads(1)  # threads of the parent are not there after a fork
    os.chdir(configs_of(package).parent)  # some configs name others from the root of the project
    outcome = Outcome(package, family)
    swapped: dict[frozenset, tuple[Config, Config]] = {}
    for path in paths:
        try:
            old = Config.fromfile(path)
        except Exception as error:  # a config is a program, which may fail in any way
            line = in_one_line(error).partition(", the current sys.path")[0]
            outcome.declined.append(f"the config can not be read: {line}")
            continue
        classes = frozenset(type_name(node) for _, node in dicts_in(old.get("model")))
        if not classes - {""}:
            continue  # a data set, or settings of a test
        try:
            new = plan_swap(old, "nano_12").config
        except SwapError as error:
            outcome.declined.append(str(error))
            outcome.bound += isinstance(error, BoundBackboneError)
        else:
            outcome.rewritten += 1
            swapped.setdefault(classes, (old, new))
    outcome.reason = "; ".join(dict.fromkeys(outcome.declined))
    for old, new in swapped.values():
        _check(old, new, outcome)
        if outcome.result != DECLINED:
            break
    return outcome if outcome.rewritten or outcome.declined else None


def _check(old: Config, new: Config, outcome: Outcome) -> None:
    diagnosis = diagnose(new)
    wrong = [finding.text for finding in diagnosis.findings if finding.is_wrong]
    before = [finding.text for finding in diagnose(old).findings] if wrong else []
    ours = [text for text in wrong if text not in before]
    outcome.reason = f"the same with its own backbone: {wrong[0]}" if wrong else ""
    if ours:
        outcome.result, outcome.reason = FAILED, ours[0]
    elif diagnosis.losses and diagnosis.flops is not None:
        head = new.model.get("decode_head")
        head = head[-1] if isinstance(head, list) else head
        name = type(diagnosis.model).__name__ + (f" with {type_name(head)}" if head else "")
        strides = ", ".join(str(stride) for stride, _ in diagnosis.levels)
        outcome.result, outcome.model = CHECKED, f"{name}, strides {strides}"


def walk(record: Path, only: list[str] | None = None) -> Iterator[Outcome]:
    """Try every family that ``record`` does not have, each in a process of its own."""
    done = {(outcome.package, outcome.family) for outcome in read_record(record)}
    for package in PACKAGES:
        __import__(f"{package}.models")  # once, before the processes are forked
        for family, paths in families_of(package).items():
            if (package, family) in done or (only and f"{package}/{family}" not in only):
                continue
            with ProcessPoolExecutor(1, multiprocessing.get_context("fork")) as pool:
                try:
                    outcome = pool.submit(try_family, package, family, paths).result()
                except Exception as error:  # its process has died, or it could not be tried
                    outcome = Outcome(package, family, result=FAILED, reason=in_one_line(error))
            if outcome is not None:
                with record.open("a", encoding="utf-8") as file:
                    file.write(json.dumps(asdict(outcome)) + "\n")
                yield outcome


def read_record(record: Path) -> list[Outcome]:
    """The outcomes in a record; none if there is no file."""
    lines = record.read_text(encoding="utf-8").splitlines() if record.exists() else []
    return [Outcome(**json.loads(line)) for line in lines]


def document(stacks: dict[str, list[Outcome]]) -> str:
    """Markdown: a summary and a table for each package, of the outcomes by environment."""
    lines = [_PREAMBLE]
    for stack, outcomes in stacks.items():
        for package in PACKAGES:
            mine = [outcome for outcome in outcomes if outcome.package == package]
            # where all are bound to their backbones, there is none to swap
            bound = [o for o in mine if 0 < o.bound == o.rewritten + len(o.declined)]
            results = [outcome.result for outcome in mine if outcome not in bound]
            counts = [results.count(result) for result in (CHECKED, DECLINED, FAILED)]
            counts += [sum(o.rewritten for o in mine), sum(len(o.declined) for o in mine)]
            cells = [f"{package}, {stack}", len(mine), len(results), *counts]
            lines.append(f"| {' | '.join(map(str, cells))} |")
    for package in PACKAGES:
        lines.append(f"\n## {package}\n\n| family | configs rewritten | model | result |")
        lines.append("|---|---|---|---|")
        places: dict[tuple[str, str], list[str]] = {}  # where a row is true
        for stack, outcome in ((s, o) for s, outcomes in stacks.items() for o in outcomes):
            if outcome.package == package:
                places.setdefault((outcome.family, _row(outcome)), []).append(stack)
        for (family, row), found in sorted(places.items()):
            where = f" ({', '.join(found)})" if len(found) < len(stacks) else ""
            lines.append(f"| {family}{where} | {row} |")
    return "\n".join(lines) + "\n"


def _row(outcome: Outcome) -> str:
    total = outcome.rewritten + len(outcome.declined)
    reason = _FOLDERS.sub("", outcome.reason).replace("|", "/")
    result = f"{outcome.result}: {reason}" if reason else outcome.result
    return f"{outcome.rewritten} of {total} | {outcome.model} | {result}"


def main(argv: list[str] | None = None) -> None:
    """Do as the arguments say (``sys.argv`` if None)."""
    parser = ArgumentParser(description="How many of mm's own configs take XCiT.")
    commands = parser.add_subparsers(dest="command", required=True)
    walking = commands.add_parser("walk", help="swap every config, run one model of each family")
    walking.add_argument("record", type=Path, help="file for the results; it is gone on with")
    walking.add_argument("--only", nargs="+", metavar="FAMILY", help="such as mmdet/retinanet")
    writing = commands.add_parser("table", help="write a document of what was found")
    writing.add_argument("out", type=Path, help="Markdown file")
    writing.add_argument("records", nargs="+", metavar="NAME=RECORD", help="openmmlab=a.jsonl ...")
    args = parser.parse_args(argv)
    if args.command == "walk":
        warnings.simplefilter("ignore")  # mm's own, in hundreds of models
        for outcome in walk(args.record, args.only):
            what = outcome.model or outcome.reason
            print(f"{outcome.package}/{outcome.family}: {outcome.result}: {what}", flush=True)
    else:
        records = dict(record.split("=", 1) for record in args.records)
        text = document({name: read_record(Path(path)) for name, path in records.items()})
        args.out.write_text(text, encoding="utf-8")

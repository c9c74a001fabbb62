"""Trying family after family, each in a process of its own: a bad model ends only itself."""

import json
import multiprocessing
import os
from collections.abc import Iterator
from dataclasses import asdict
from multiprocessing.connection import Connection
from pathlib import Path

import torch
from dev.swap_coverage.families import (
    FAILED,
    FamilyOutcome,
    families_of,
    try_family,
)

from xcit_dense.mm.config_tree import PACKAGES
from xcit_dense.swap.config_source import configs_of

# forked: mm's packages are imported once, not 167 times
_PROCESSES = multiprocessing.get_context("fork")


def walk(record: Path, seconds: float, only: list[str] | None = None) -> Iterator[FamilyOutcome]:
    """Try every family of configs of the installed mmdet and mmseg.

    Args:
        record: file that gets a line of JSON for each family; those that it has are not tried
            again.
        seconds: how long a family may take.
        only: families to try, as ``mmdet/retinanet``; None for all.
    """
    for package in PACKAGES:
        __import__(f"{package}.models")
    done = {(outcome.package, outcome.family) for outcome in read_record(record)}
    for package in PACKAGES:
        for family, paths in families_of(package).items():
            wanted = only is None or f"{package}/{family}" in only
            if wanted and (package, family) not in done:
                outcome = _try_in_a_process(package, family, paths, seconds)
                if outcome is not None:
                    with record.open("a", encoding="utf-8") as file:
                        file.write(json.dumps(asdict(outcome)) + "\n")
                    yield outcome


def read_record(record: Path) -> list[FamilyOutcome]:
    """The outcomes in a record; none if there is no file."""
    if not record.exists():
        return []
    lines = record.read_text(encoding="utf-8").splitlines()
    return [FamilyOutcome(**json.loads(line)) for line in lines]


def _try_in_a_process(
    package: str, family: str, paths: list[Path], seconds: float
) -> FamilyOutcome | None:
    receiver, sender = _PROCESSES.Pipe(duplex=False)
    process = _PROCESSES.Process(target=_work, args=(sender, package, family, paths))
    process.start()
    sender.close()
    try:
        if receiver.poll(seconds):
            return receiver.recv()
        reason = f"took longer than {seconds:g} seconds"
    except EOFError:
        process.join()
        reason = f"the process ended with code {process.exitcode}"
    finally:
        process.kill()
        process.join()
    return FamilyOutcome(package, family, result=FAILED, reason=reason)


def _work(sender: Connection, package: str, family: str, paths: list[Path]) -> None:
    torch.set_num_threads(1)  # threads of the parent are not there after a fork
    os.chdir(configs_of(package).parent)  # some configs name others from the root of the project
    sender.send(try_family(package, family, paths))

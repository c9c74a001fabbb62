"""Trainings that are killed at any moment and resumed, against one that nobody disturbed.

Each start is a fork of this process, which has imported everything, with two workers that load
data. Ctrl-C goes to all of its processes, as a terminal sends it, SIGTERM to all or to the first.
"""

import contextlib
import os
import random
import signal
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from dev.demo_data import Plan, write_coco
from dev.fuzz.cases import Case, Outcome

from xcit_dense.cli import train
from xcit_dense.cli.main import run
from xcit_dense.weights.safe_loading import load_from_local

_KILLS = (
    (signal.SIGTERM, os.kill),
    (signal.SIGTERM, os.killpg),
    (signal.SIGINT, os.killpg),
    *[(signal.SIGKILL, os.kill)] * 5,
)
_LONGEST_END = 10  # seconds; workers look every five whether their first process is there
_CHANGES = (
    "randomness.seed=7", "train_dataloader.batch_size=2", "train_dataloader.num_workers=2",
    "train_dataloader.persistent_workers=True", "val_dataloader.num_workers=2",
    "val_dataloader.persistent_workers=True", "model.neck.in_channels=[16,16,16,16]",
    "model.backbone.arch.embed_dims=16", "model.backbone.arch.depth=4",
    "model.backbone.drop_path_rate=0.3", "default_hooks.checkpoint.by_epoch=False",
    "default_hooks.checkpoint.interval=1", "default_hooks.checkpoint.max_keep_ckpts=2",
    "default_hooks.checkpoint.save_best=auto", "default_hooks.checkpoint.rule=greater",
    "train_cfg.max_epochs=3", "train_cfg.val_interval=1",
)  # fmt: skip


def kill_outcomes(generator: random.Random, count: int) -> Iterator[Outcome]:
    """Kill trainings, each as often as it takes, until there were ``count`` kills."""
    with TemporaryDirectory() as name:
        folder = Path(name)
        write_coco(folder / "data", Plan(train=6, val=3, size=64))
        begin = time.monotonic()
        if code := os.waitstatus_to_exitcode(os.waitpid(_start(folder, "straight"), 0)[1]):
            raise RuntimeError(f"exit code {code}: {(folder / 'straight.err').read_text()}")
        seconds = time.monotonic() - begin
        kills, trainings = 0, 0
        while kills < count:
            trainings += 1
            training = f"training{trainings}"
            while True:
                sent, send = _KILLS[kills % len(_KILLS)]
                told = _kill_one(folder, training, sent, send, generator.uniform(0.1, seconds))
                if told is None:
                    break
                kills += 1
                case = Case(f"kills {kills}: {sent.name} in {training}", _start)
                yield Outcome(case, "fault" if told else "fine", told)
            told = _difference(folder / "straight", folder / training)
            yield Outcome(Case(f"the end of {training}", _start), "fault" if told else "fine", told)


def _start(folder: Path, training: str) -> int:
    """Start or resume a training; the id of its first process, which has a group of its own."""
    process = os.fork()
    if process:
        return process
    os.setsid()
    signal.signal(signal.SIGINT, signal.default_int_handler)  # shells let background jobs ignore it
    for number, path in ((1, os.devnull), (2, folder / f"{training}.err")):
        os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), number)
    config = Path(__file__).parents[3] / "configs/demo/xcit_maskrcnn_demo.py"
    places = [f"--work-dir={folder / training}", f"--data-root={folder / 'data'}", "--resume"]
    sys.argv = ["train", str(config), *places, "--cfg-options", *_CHANGES]
    code = 1
    try:
        run(train.main)
        code = 0
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else 1
        print("" if end.code == code else end.code, file=sys.stderr)
    finally:
        sys.stderr.flush()
        os._exit(code)


def _kill_one(
    folder: Path,
    training: str,
    sent: signal.Signals,
    send: Callable[[int, int], None],
    seconds: float,
) -> str | None:
    """Kill a training some time after its start, and say what is wrong; None if it ended before."""
    process = _start(folder, training)
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        time.sleep(0.002)
        ended, status = os.waitpid(process, os.WNOHANG)
        if ended:
            return _error(folder, training) if status else None
    send(process, sent)
    status = os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])
    deadline = time.monotonic() + _LONGEST_END
    while left := _processes_of(process):
        if time.monotonic() > deadline:
            return f"processes {left} are left"
        time.sleep(0.1)
    lines = [line for line in _error(folder, training).splitlines() if line.strip()]
    # a training that was at its end has ended
    if sent != signal.SIGKILL and status and (status, lines[-1:]) != (130, ["stopped"]):
        return f"exit code {status}: {lines}"
    return " | ".join(lines) if any("Traceback" in line for line in lines) else ""


def _error(folder: Path, training: str) -> str:
    return (folder / f"{training}.err").read_text()


def _processes_of(group: int) -> list[int]:
    """The processes of a group that have not ended."""
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):  # it has ended meanwhile
            state, _, number = path.read_text().rpartition(")")[2].split()[:3]
            if int(number) == group and state != "Z":
                found.append(int(path.parent.name))
    return found


def _difference(straight: Path, killed: Path) -> str:
    """What differs between the ends of two trainings."""
    names = [
        sorted(p.name for p in folder.glob("*") if p.is_file()) for folder in (straight, killed)
    ]
    if names[0] != names[1]:
        return f"files {names[1]}, not {names[0]}"
    newest = (straight / "last_checkpoint").read_text().rpartition("/")[2]
    ends = [load_from_local(str(folder / newest)) for folder in (straight, killed)]
    if ends[0]["param_schedulers"] != ends[1]["param_schedulers"]:
        return "the schedules differ"
    parts = [(end["state_dict"], end["optimizer"]) for end in ends]
    try:
        torch.testing.assert_close(*parts, rtol=0, atol=0, equal_nan=True)
    except AssertionError as error:
        return str(error)
    return ""

"""Command lines with wrong options, paths and config values."""

import atexit
import random
import shutil
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from importlib import import_module
from pathlib import Path
from tempfile import mkdtemp

from dev.demo_data import Plan, write_coco
from dev.fuzz.cases import Case

from xcit_dense.cli.main import COMMANDS, run
from xcit_dense.errors import UserError
from xcit_dense.mm.config import dicts_in, read_config

_TEXTS = (
    "", "nope", "nope.py", "nope.pth", "-1", "0", "1e999", "nan", "None", "é", "a" * 5000, "/",
    "..", "/dev/null", "config.py", "data", "data/annotations/instances_val2017.json", "broken.pth",
    "broken.py", "mmdet::nope.py", "nope::nope.py", "http://localhost:1/a.pth", "timm://nope",
    "--nope", "--cfg-options", "*",
)  # fmt: skip
_VALUES = ("nope", "-1", "0", "None", "[]", "{}", "1.5", "[1,", "{'type':'Nope'}", "True", "nan")
_CONFIG = """_base_ = "{base}"
model = dict(
    backbone=dict(arch=dict(embed_dims=16, depth=4, num_heads=2, eta=0.1)),
    neck=dict(in_channels=[16] * 4),
)
train_cfg = dict(max_epochs=1, val_interval=1)
train_dataloader = dict(batch_size=2)
default_hooks = dict(checkpoint=dict(interval=1))
"""
_SAY_ALL_BY_THEMSELVES = ("predict", "doctor", "browse", "check-data")
"""Commands whose exit code 1 follows a list of what went wrong."""

_ENDLESS = ("train_cfg.max_epochs",)
_LINES = {
    "train": ["config.py", "--data-root", "data", "--work-dir", "work"],
    "test": [
        "config.py",
        "model.pth",
        "--data-root",
        "data",
        "--work-dir",
        "work",
        "--out",
        "a.pkl",
    ],
    "predict": ["config.py", "model.pth", "data/val2017", "--out", "found", "--batch-size", "2"],
    "swap": [
        "mmdet::retinanet/retinanet_r50_fpn_1x_coco.py",
        "--out",
        "new.py",
        "--arch",
        "nano_12",
    ],
    "new-config": [
        "--coco",
        "data/annotations/instances_val2017.json",
        "--images",
        "data/val2017",
        "--no-pretrained",
        "--no-check",
    ],
    "check-data": ["config.py", "--data-root", "data", "--out", "pictures"],
    "doctor": ["config.py", "--size", "128", "128"],
    "attention": ["config.py", "model.pth", "data/val2017/000000000001.jpg", "--out", "a.png"],
    "browse": ["config.py", "--data-root", "data", "--out", "fed", "--number", "2"],
    "curves": ["work", "--out", "curves.png"],
    "convert": ["model.pth", "new.pth"],
}


def command_line_cases(generator: random.Random, count: int) -> Iterator[Case]:
    """Command lines that are right but for one to three arguments."""
    _workplace()  # before the processes fork
    for number in range(count):
        command = generator.choice(list(COMMANDS))
        line = list(_LINES[command])
        for _ in range(generator.randint(1, 3)):
            _change(line, command, generator)
        yield Case(
            f"command lines {number}: {command} {line!r:.300}",
            lambda folder, command=command, line=line: _run(folder, command, line),
        )


def _change(line: list[str], command: str, generator: random.Random) -> None:
    chance = generator.random()
    if chance < 0.5 and command in ("train", "test", "predict", "doctor", "browse", "check-data"):
        value = f"{generator.choice(_keys())}={generator.choice(_VALUES)}"
        line += ["--cfg-options", value]
    elif chance < 0.6 and line:
        del line[generator.randrange(len(line))]
    elif chance < 0.7 or not line:
        line.insert(generator.randint(0, len(line)), generator.choice(_TEXTS))
    else:
        line[generator.randrange(len(line))] = generator.choice(_TEXTS)


def _run(folder: Path, command: str, line: list[str]) -> None:
    """Run a command where everything is there that the right line needs."""
    shutil.copytree(_workplace(), folder, dirs_exist_ok=True)
    sys.argv = [command, *line]
    try:
        run(import_module(f"xcit_dense.cli.{command.replace('-', '_')}").main)
    except SystemExit as error:
        if error.code in (None, 0):
            return
        lines = str(error.code).splitlines()
        if error.code == 2 or (error.code == 1 and command in _SAY_ALL_BY_THEMSELVES):
            lines = ["error: said on stderr"]
        if len(lines) != 1 or not lines[0].startswith("error: "):
            raise AssertionError(f"exit code {error.code!r}") from error
        raise UserError(lines[0]) from error


@cache
def _keys() -> list[str]:
    """The dotted names of all values of the config."""
    cfg = read_config(str(_workplace() / "config.py"))
    return [
        f"{path}.{key}".removeprefix(".")
        for path, node in dicts_in(cfg.to_dict())
        for key in node
        if f"{path}.{key}" not in _ENDLESS
    ]


@cache
def _workplace() -> Path:
    """A folder with a config, data, a checkpoint and a log; made once, for all cases."""
    folder = Path(mkdtemp())
    atexit.register(shutil.rmtree, folder)
    base = Path(__file__).parents[3] / "configs/demo/xcit_maskrcnn_demo.py"
    (folder / "config.py").write_text(_CONFIG.format(base=base))
    (folder / "broken.py").write_text("model = dict(")
    (folder / "broken.pth").write_bytes(b"PK\x03\x04")
    write_coco(folder / "data", Plan(train=3, val=3, size=64))
    train = [sys.executable, Path(__file__).parents[2] / "train.py", *_LINES["train"]]
    subprocess.run(train, cwd=folder, check=True, capture_output=True)
    shutil.copy(folder / "work/epoch_1.pth", folder / "model.pth")
    return folder

"""Whatever cannot be written ends a command with one line that names it; all else is as it was."""

import errno
import itertools
import json
import os
import sys
from importlib import import_module
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from dev.demo_data import Plan, write_ade20k, write_coco
from mmengine.config import Config
from mmengine.registry import MODELS, init_default_scope

from xcit_dense.cli.main import run

CONFIGS = Path(__file__).parents[2] / "configs/demo"
TINY = {"model.backbone.arch.embed_dims": 16, "model.backbone.arch.depth": 4}
KINDS = {
    "coco": ("xcit_maskrcnn_demo.py", write_coco, {"model.neck.in_channels": [16] * 4}),
    "ade20k": (
        "xcit_upernet_demo.py",
        write_ade20k,
        {"model.decode_head.in_channels": [16] * 4, "model.auxiliary_head.in_channels": 16},
    ),
}


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """Data, configs, checkpoints and a log."""
    place = tmp_path_factory.mktemp("place")
    for kind, (config, write, changes) in KINDS.items():
        write(place / kind, Plan(train=2, val=2, size=64))
        cfg = Config.fromfile(CONFIGS / config)
        cfg.merge_from_dict({**TINY, **changes})
        cfg.dump(place / f"{kind}.py")
        init_default_scope(cfg.default_scope)
        content = {"state_dict": MODELS.build(cfg.model).state_dict()}
        content["meta"] = {"dataset_meta": {"classes": cfg.metainfo.classes}}
        torch.save(content, place / f"{kind}.pth")
    log = place / "run/1/vis_data/scalars.json"
    log.parent.mkdir(parents=True)
    log.write_text(json.dumps({"iter": 1, "loss": 1.0}))
    return place


DISK = SimpleNamespace(folder="nowhere", left=0, failed=None)
"""The folder whose disk is full, how many steps it has left, and what has failed."""


def take_a_step(path):
    path = os.path.abspath(os.fsdecode(path))
    if path.startswith(DISK.folder) and DISK.failed is None:
        DISK.left -= 1
        if DISK.left < 0:
            DISK.failed = path
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), path)


def watch(event, arguments):
    """Python's audit hook, which cannot be taken away again."""
    if event == "open" and isinstance(arguments[0], str | bytes):
        if arguments[2] & (os.O_WRONLY | os.O_RDWR):
            take_a_step(arguments[0])
    elif event in ("os.mkdir", "os.rename"):
        take_a_step(arguments[0])


sys.addaudithook(watch)


def flush(number):
    try:
        take_a_step(os.readlink(f"/proc/self/fd/{number}"))
    except OSError as error:  # says nothing about the file
        raise OSError(error.errno, error.strerror) from None


LINES = [
    "convert {place}/coco.pth {out}/new.pth --force",
    "convert {place}/coco.pth {out}/new.safetensors --force",
    "curves {place}/run --out {out}/curves.png",
    "attention {place}/coco.py {place}/coco.pth {place}/image.jpg --out {out}/attention.png",
    "browse {place}/coco.py --data-root {place}/coco --out {out} --number 2",
    "swap {place}/coco.py --out {out}/new.py --no-check --force",
    "predict {place}/coco.py {place}/coco.pth {place}/coco/val2017 --out {out} --score-thr 0",
    "predict {place}/ade20k.py {place}/ade20k.pth {place}/coco/val2017 --out {out}",
    "test {place}/coco.py {place}/coco.pth --data-root {place}/coco --work-dir {out}/work"
    " --out {out}/found.pkl --show-dir {out}/pictures",
    "test {place}/ade20k.py {place}/ade20k.pth --data-root {place}/ade20k --work-dir {out}/work"
    " --out {out}/labels",
]


@pytest.mark.parametrize("line", LINES, ids=lambda line: line.split()[0])
def test_a_full_disk_at_every_step(line, place, tmp_path, monkeypatch, capsys):
    image = next((place / "coco/val2017").iterdir())
    command, *arguments = line.format(place=place, out=tmp_path / "out").replace(
        f"{place}/image.jpg", str(image)
    ).split()
    monkeypatch.setattr(sys, "argv", [command, *arguments])
    monkeypatch.setattr(os, "fsync", flush)
    monkeypatch.setattr(DISK, "folder", str(tmp_path))
    main = import_module(f"xcit_dense.cli.{command}").main
    for number in itertools.count():
        for old in (False, True):
            DISK.left, DISK.failed = number, None
            try:
                run(main)
            except SystemExit as end:
                print(number, DISK.failed, end.code, file=sys.__stdout__)
        if DISK.failed is None:
            break

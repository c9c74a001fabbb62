"""Whatever cannot be written ends a command with one line that names it; all else is as it was."""

import errno
import json
import os
import re
import shutil
import sys
from importlib import import_module
from pathlib import Path

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
        write(place / kind, Plan(train=3, val=3, size=64))
        cfg = Config.fromfile(CONFIGS / config)
        cfg.merge_from_dict({**TINY, **changes})
        cfg.dump(place / f"{kind}.py")
        init_default_scope(cfg.default_scope)
        content = {"state_dict": MODELS.build(cfg.model).state_dict()}
        content["meta"] = {"dataset_meta": {"classes": cfg.metainfo.classes}}
        torch.save(content, place / f"{kind}.pth")
    shutil.copy(next((place / "coco/val2017").iterdir()), place / "image.jpg")
    log = place / "run/1/vis_data/scalars.json"
    log.parent.mkdir(parents=True)
    log.write_text(json.dumps({"iter": 1, "loss": 1.0}))
    return place


class Disk:
    """Counts the steps of writing in a folder, and fails at one of them."""

    folder = None
    full_at = -1

    def __init__(self):
        self.steps = []

    def step(self, kind, path):
        path = os.path.abspath(str(path))
        if self.folder and path.startswith(self.folder):
            self.steps.append((kind, path))
            if len(self.steps) - 1 == self.full_at:
                raise OSError(errno.ENOSPC, "No space left on device", path)

    def see(self, event, arguments):
        """Python's audit hook, which cannot be taken away again."""
        writes = event == "open" and arguments[2] & (os.O_WRONLY | os.O_RDWR)
        if writes or event in ("os.mkdir", "os.rename"):
            self.step(event, arguments[0])

    def flush(self, number):
        """In the place of ``os.fsync``, where bytes reach the disk."""
        try:
            self.step("flush", os.readlink(f"/proc/self/fd/{number}"))
        except OSError as error:  # the system does not name the file
            raise OSError(error.errno, error.strerror) from None


DISK = Disk()
sys.addaudithook(DISK.see)


def contents(folder):
    """What is in the files of a folder, logs and other files that have the time in them aside."""
    files = [path for path in folder.rglob("*") if path.is_file() and "work" not in path.parts]
    return {path: path.read_bytes() for path in files}


LINES = [
    "convert {place}/coco.pth {out}/new.pth --force",
    "convert {place}/coco.pth {out}/new.safetensors --force",
    "curves {place}/run --out {out}/curves.png",
    "attention {place}/coco.py {place}/coco.pth {place}/image.jpg --out {out}/a.png --blocks 0",
    "browse {place}/coco.py --data-root {place}/coco --out {out} --number 2",
    "swap {place}/coco.py --out {out}/new.py --no-check --force",
    "predict {place}/coco.py {place}/coco.pth {place}/coco/val2017 --out {out} --score-thr 0",
    "predict {place}/ade20k.py {place}/ade20k.pth {place}/coco/val2017 --out {out}",
    "test {place}/coco.py {place}/coco.pth --data-root {place}/coco --work-dir {out}/work"
    " --out {out}/found.pkl --show-dir {out}/pictures",
    "test {place}/ade20k.py {place}/ade20k.pth --data-root {place}/ade20k --work-dir {out}/work"
    " --out {out}/labels",
]


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("line", LINES, ids=lambda line: line.split()[0])
def test_a_full_disk_at_every_step(line, place, tmp_path, monkeypatch, capsys):
    """Of steps that are repeated for each image the first; of a slow command one for each file."""
    out = tmp_path / "out"
    command, *arguments = line.format(place=place, out=out).split()
    monkeypatch.setattr(sys, "argv", [command, *arguments])
    monkeypatch.setattr(os, "fsync", DISK.flush)
    unformatted = lambda text, **_: (text, False)  # noqa: E731  # of dumped configs, which is slow
    monkeypatch.setattr("mmengine.config.config.FormatCode", unformatted, raising=False)
    monkeypatch.setattr(DISK, "folder", str(tmp_path))

    def start(full_at):
        DISK.steps.clear()
        DISK.full_at = full_at
        run(import_module(f"xcit_dense.cli.{command}").main)
        return list(DISK.steps)

    steps = start(-1)
    new = contents(out)
    kinds = [re.sub("[0-9]+", "", kind * (command != "test") + path) for kind, path in steps]
    failed = 0
    for number in sorted(map(kinds.index, set(kinds))):
        shutil.rmtree(out, ignore_errors=True)
        for path in new if number else ():
            path.parent.mkdir(exist_ok=True, parents=True)
            path.write_bytes(b"old")
        before = contents(out)
        try:
            start(number)
        except SystemExit as end:
            failed += 1
            name = re.fullmatch(r"\.?(.*?)(\.partial)?", Path(DISK.steps[number][1]).name)[1]
            assert end.code.startswith("error: ") and "\n" not in end.code
            assert name in end.code and "No space left" in end.code
        left = contents(out)
        assert before.keys() <= left.keys() <= new.keys()
        for path, content in left.items():  # old or whole
            assert content == b"old" or len(content) == len(new[path]), (path, steps[number])
        assert "Traceback" not in capsys.readouterr().err
    assert failed > 2

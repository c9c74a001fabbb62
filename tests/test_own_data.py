"""The commands of docs/own_data.md, on fewer and smaller images and for one epoch."""

import re
import shlex
from importlib import import_module
from pathlib import Path

import pytest
from dev.demo_data.data_set import main as make_demo_data

DOCUMENT = (Path(__file__).parents[1] / "docs/own_data.md").read_text(encoding="utf-8")
BLOCKS = [
    block.replace("\\\n", " ").splitlines()
    for block in re.findall(r"```\n(.*?)```", DOCUMENT, re.DOTALL)
]
# torch takes ten seconds to end persistent workers in a process that goes on
END_WORKERS = [f"{name}_dataloader.persistent_workers=False" for name in ("train", "val", "test")]
RESULTS = [
    ["pictures/*.jpg", "found/pictures/*.jpg", "found/predictions.json", "shapes/curves.png"],
    ["pictures/*.jpg", "work_dirs/*/*/evaluation/per_class.png"],
]


def run(command):
    program, *words = shlex.split(re.sub(r"--epochs \d+", "--epochs 1", command))
    words = [
        re.sub(r"\$\(cat (.*)\)", lambda match: Path(match[1]).read_text(), word) for word in words
    ]
    if program == "python":
        assert words[0] == "tools/make_demo_data.py"
        make_demo_data([*words[1:], "--train", "8", "--val", "4", "--size", "64"])
        return
    assert program == "xcit-dense"
    if words[0] in ("train", "test"):
        words += ["--cfg-options", *END_WORKERS]
    module = import_module(f"xcit_dense.cli.{words[0].replace('-', '_')}")
    assert not module.main(words[1:])


@pytest.mark.parametrize(("block", "results"), zip(BLOCKS[1:], RESULTS, strict=True))
def test_the_commands_run(tmp_path, monkeypatch, block, results):
    monkeypatch.chdir(tmp_path)
    for command in [*BLOCKS[0], *block]:
        run(command)
    always = ["checked/*", "work_dirs/*/*.pth"]
    for pattern in always + results:
        assert [*tmp_path.rglob(pattern)], pattern

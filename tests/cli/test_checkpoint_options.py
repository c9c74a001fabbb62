"""The tools and their checkpoints: errors of one line, and resuming after a kill."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from dev.demo_data import Plan, write_ade20k

from xcit_dense.cli import test as test_command
from xcit_dense.cli import train as train_command
from xcit_dense.cli.main import run
from xcit_dense.weights.safe_loading import load_from_local

REPOSITORY = Path(__file__).parents[2]
CONFIG = str(REPOSITORY / "configs/demo/xcit_upernet_demo.py")


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    root = tmp_path_factory.mktemp("data") / "ade20k"
    write_ade20k(root, Plan(train=4, val=3, size=64))
    return str(root)


class RunsCommand:
    """Unpickled without protection, runs a command."""

    def __reduce__(self):
        return os.system, ("touch trace",)


@pytest.mark.parametrize(
    ("tool", "options"),
    [
        (train_command, ["--resume", "{}"]),
        (train_command, ["--pretrained", "{}"]),
        (train_command, ["--cfg-options", "load_from={}"]),
        (test_command, ["{}"]),
    ],
    ids=str,
)
def test_unusable_checkpoints_end_the_tools_with_one_line(
    tool, options, data, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    torch.save({"state_dict": {}, "meta": RunsCommand()}, "hostile.pth")
    Path("empty.pth").touch()
    for name in ("hostile.pth", "empty.pth", "missing.pth"):
        arguments = [option.format(name) for option in options]
        monkeypatch.setattr(sys, "argv", ["tool", CONFIG, *arguments, "--data-root", data])
        with pytest.raises(SystemExit) as exit_:
            run(tool.main)
        assert exit_.value.code.startswith(f"error: {name}: ")
        assert "\n" not in exit_.value.code
    assert not Path("trace").exists()
    assert not Path("work_dirs").exists()  # seen before anything began


DIES_WHILE_SAVING = '''
"""Kills the process in the middle of writing the second checkpoint."""
import os, signal
from xcit_dense.mm import saving

write_whole = saving.write_atomically

def write_and_die(path, write):
    def half(file):
        content = []
        write(type("Sink", (), {"write": lambda self, data: content.append(data)})())
        file.write(content[0][: len(content[0]) // 2])
        file.flush()
        os.kill(os.getpid(), signal.SIGKILL)
    write_whole(path, half if str(path).endswith("iter_4.pth") else write)

saving.write_atomically = write_and_die
'''


def test_a_run_killed_while_saving_is_resumed(data, tmp_path, capsys):
    (tmp_path / "dies_while_saving.py").write_text(DIES_WHILE_SAVING)
    (tmp_path / "dies.py").write_text(
        f"_base_ = {CONFIG!r}\ncustom_imports = dict(imports=['xcit_dense', 'dies_while_saving'])\n"
    )
    work_dir = tmp_path / "work"
    options = [
        "--data-root", data, "--work-dir", str(work_dir), "--resume", "--cfg-options",
        "model.backbone.arch.embed_dims=16", "model.backbone.arch.depth=4",
        "model.decode_head.in_channels=[16,16,16,16]", "model.auxiliary_head.in_channels=16",
        "train_cfg.max_iters=6", "train_cfg.val_interval=100", "train_dataloader.batch_size=2",
        "default_hooks.checkpoint.interval=2", "default_hooks.checkpoint.max_keep_ckpts=1",
    ]  # fmt: skip

    def files():
        return sorted(path.name for path in work_dir.iterdir() if "iter" in path.name)

    killed = subprocess.run(
        [sys.executable, str(REPOSITORY / "tools/train.py"), str(tmp_path / "dies.py"), *options],
        env={**os.environ, "PYTHONPATH": f"{tmp_path}:{REPOSITORY}", "OMP_NUM_THREADS": "1"},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    partial, complete = files()
    assert complete == "iter_2.pth"
    assert not partial.endswith(".pth")
    train_command.main([CONFIG, *options])
    assert f"resuming from {work_dir / complete}" in capsys.readouterr().err
    assert files() == ["iter_6.pth"]
    assert load_from_local(work_dir / "iter_6.pth")["meta"]["iter"] == 6

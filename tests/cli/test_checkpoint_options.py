"""The tools and their checkpoints: errors of one line, resuming, also after a kill."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from dev.demo_data import Plan, write_ade20k
from mmengine.config import Config
from mmengine.hooks import CheckpointHook

from xcit_dense.cli import test as test_command
from xcit_dense.cli import train as train_command
from xcit_dense.cli.main import run
from xcit_dense.mm.starting_checkpoints import use_atomic_checkpoints, use_resume
from xcit_dense.weights.safe_loading import load_local_checkpoint

REPOSITORY = Path(__file__).parents[2]
CONFIG = str(REPOSITORY / "configs/demo/xcit_upernet_demo.py")


class RunsCommand:
    """Unpickled without protection, runs a command."""

    def __init__(self, command):
        self.command = command

    def __reduce__(self):
        return os.system, (self.command,)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    root = tmp_path_factory.mktemp("data") / "ade20k"
    write_ade20k(root, Plan(train=4, val=3, size=64))
    return str(root)


@pytest.fixture
def unusable(tmp_path):
    """Files that are no usable checkpoints, by what the error says of them."""
    hostile, short, empty = (tmp_path / f"{name}.pth" for name in ("hostile", "short", "empty"))
    torch.save({"state_dict": {}, "meta": RunsCommand(f"touch {tmp_path}/trace")}, hostile)
    torch.save({"state_dict": {"w": torch.ones(99)}}, short)
    short.write_bytes(short.read_bytes()[:500])
    empty.touch()
    return {
        "refused, loading it could run code": hostile,
        "damaged, the file is cut short": short,
        "damaged, the file is empty": empty,
        "no such checkpoint file": tmp_path / "missing.pth",
        "cannot be read (Is a directory)": tmp_path,
    }


def ways_to_name(checkpoint, data):
    """Every place of the command lines where a checkpoint can be named."""
    train = (train_command.main, ["train.py", CONFIG, "--data-root", data])
    return [
        (train[0], [*train[1], "--resume", checkpoint]),
        (train[0], [*train[1], "--pretrained", checkpoint]),
        (train[0], [*train[1], "--cfg-options", f"load_from={checkpoint}"]),
        (test_command.main, ["test.py", CONFIG, checkpoint, "--data-root", data]),
    ]


class TestErrors:
    def test_each_ends_the_tools_with_one_line(self, unusable, data, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        for expected, path in unusable.items():
            for main, argv in ways_to_name(str(path), data):
                monkeypatch.setattr(sys, "argv", argv)
                with pytest.raises(SystemExit) as exit_:
                    run(main)
                assert exit_.value.code.startswith(f"error: {path}: {expected}"), argv
                assert "\n" not in exit_.value.code
        assert not (tmp_path / "trace").exists()
        assert not (tmp_path / "work_dirs").exists()  # seen before anything began

    def test_weights_alone_are_not_resumed_from(self, data, tmp_path, monkeypatch):
        torch.save({"state_dict": {}}, tmp_path / "weights.pth")
        argv = ["train.py", CONFIG, "--data-root", data, "--resume", f"{tmp_path}/weights.pth"]
        monkeypatch.setattr(sys, "argv", argv)
        with pytest.raises(SystemExit, match=r"^error: .*weights\.pth: holds weights only"):
            run(train_command.main)

    def test_a_fault_of_ours_keeps_its_traceback(self):
        def faulty(argv):
            raise ValueError("of the program")

        with pytest.raises(ValueError, match="of the program"):
            run(faulty)


class TestResume:
    def config(self, work_dir, **values):
        return Config({"work_dir": str(work_dir), "load_from": "detector.pth", **values})

    def save(self, path):
        torch.save({"meta": {}, "state_dict": {}, "message_hub": {}}, path)
        return str(path)

    def test_a_new_work_dir_starts_from_what_the_config_names(self, tmp_path, capsys):
        cfg = self.config(tmp_path, resume=True)
        use_resume(cfg, "auto")
        assert (cfg.resume, cfg.load_from) == (False, "detector.pth")
        assert capsys.readouterr().err == (
            f"no checkpoint to resume from in {tmp_path}: training starts anew\n"
        )

    def test_what_is_passed_over_is_named_in_a_line(self, tmp_path, capsys):
        whole = self.save(tmp_path / "iter_1.pth")
        (tmp_path / "iter_2.pth").touch()
        (tmp_path / "last_checkpoint").write_text(str(tmp_path / "iter_2.pth"))
        cfg = self.config(tmp_path)
        use_resume(cfg, "auto")
        assert (cfg.resume, cfg.load_from) == (True, whole)
        assert capsys.readouterr().err.splitlines() == [
            f"warning: not resumed from {tmp_path}/iter_2.pth: damaged, the file is empty",
            f"resuming from {whole}",
        ]

    def test_a_checkpoint_that_is_named_is_taken(self, tmp_path):
        cfg = self.config(tmp_path)
        use_resume(cfg, "own.pth")
        assert (cfg.resume, cfg.load_from) == (True, "own.pth")


class TestAtomicCheckpoints:
    @pytest.mark.parametrize("kind", ["CheckpointHook", CheckpointHook])
    def test_the_hook_of_mmengine_is_replaced(self, kind, capsys):
        cfg = Config({"default_hooks": {"checkpoint": {"type": kind, "interval": 7}}})
        use_atomic_checkpoints(cfg)
        assert cfg.default_hooks.checkpoint == {"type": "AtomicCheckpointHook", "interval": 7}
        assert capsys.readouterr().err.startswith("CheckpointHook becomes AtomicCheckpointHook")

    def test_where_the_config_has_none_it_is_as_often_as_in_mmengine(self):
        cfg = Config({})
        use_atomic_checkpoints(cfg)
        assert cfg.default_hooks.checkpoint == {"type": "AtomicCheckpointHook", "interval": 1}

    @pytest.mark.parametrize("hook", [None, {"type": "OwnHook"}, {"type": "AtomicCheckpointHook"}])
    def test_what_a_config_has_decided_stays(self, hook, capsys):
        cfg = Config({"default_hooks": {"checkpoint": hook}})
        use_atomic_checkpoints(cfg)
        assert cfg.default_hooks.checkpoint == hook
        assert capsys.readouterr().err == ""

    @pytest.mark.parametrize("path", sorted(REPOSITORY.glob("configs/*.py")), ids=lambda p: p.stem)
    def test_our_configs_name_it(self, path):
        hooks = Config.fromfile(path).default_hooks
        assert hooks.checkpoint.type == "AtomicCheckpointHook"


DIES_WHILE_SAVING = '''
"""Kills the process in the middle of writing the second checkpoint."""
import os, signal
from xcit_dense.mm import atomic_saving

write_whole = atomic_saving.write_atomically

def write_and_die(path, write):
    def half(file):
        content = []
        write(type("Sink", (), {"write": lambda self, data: content.append(data)})())
        file.write(content[0][: len(content[0]) // 2])
        file.flush()
        os.kill(os.getpid(), signal.SIGKILL)
    write_whole(path, half if str(path).endswith("iter_4.pth") else write)

atomic_saving.write_atomically = write_and_die
'''


def test_a_run_killed_while_saving_is_resumed(data, tmp_path):
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

    def train(config):
        return subprocess.run(
            [sys.executable, str(REPOSITORY / "tools/train.py"), str(config), *options],
            env={**os.environ, "PYTHONPATH": str(tmp_path), "OMP_NUM_THREADS": "1"},
            capture_output=True, text=True, check=False,
        )  # fmt: skip

    def files():
        return sorted(path.name for path in work_dir.iterdir() if path.is_file())

    killed = train(tmp_path / "dies.py")
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert f"no checkpoint to resume from in {work_dir}" in killed.stderr
    assert (work_dir / "last_checkpoint").read_text() == str(work_dir / "iter_2.pth")
    partial = [name for name in files() if ".partial-" in name]
    assert [name.startswith(".iter_4.pth.") for name in partial] == [True]
    assert "iter_2.pth" in files()

    resumed = train(CONFIG)
    assert resumed.returncode == 0, resumed.stderr
    assert f"resuming from {work_dir / 'iter_2.pth'}" in resumed.stderr
    assert [name for name in files() if "iter" in name] == ["iter_6.pth"]
    assert load_local_checkpoint(str(work_dir / "iter_6.pth"))["meta"]["iter"] == 6

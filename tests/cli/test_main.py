"""Whatever goes wrong in a command ends it with one line and exit code 1."""

import logging
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from mmengine.registry import MODELS
from torch.utils.data import DataLoader

import xcit_dense  # noqa: F401
from xcit_dense.cli.main import run
from xcit_dense.errors import UserError


def raising(error):
    def command():
        raise error

    return command


def load_in_a_worker():
    class Damaged(torch.utils.data.Dataset):
        def __getitem__(self, index):
            raise UserError("photo.jpg: cannot be used")

        def __len__(self):
            return 1

    list(DataLoader(Damaged(), num_workers=1))


def build_a_model():
    MODELS.build({"type": "XCiT", "arch": "nope"})


def build_a_part():
    MODELS.register_module("Whole", module=lambda backbone: MODELS.build(backbone), force=True)
    MODELS.build({"type": "Whole", "backbone": {"type": "XCiT", "patch_size": 7}})


@pytest.mark.parametrize(
    ("command", "told"),
    [
        (raising(UserError("a\nb")), ["error: a b"]),
        (raising(PermissionError(13, "not allowed", "a.pth")), ["error: a.pth: not allowed"]),
        (raising(KeyError("nope")), ["KeyError: nope", "XCIT_DENSE_TRACEBACK"]),
        (load_in_a_worker, ["error: photo.jpg: cannot be used"]),
        (build_a_model, ["error: XCiT: arch", "'nope'", "small_12"]),
        (build_a_part, ["error: backbone: patch_size=7", "8"]),
    ],
)
def test_every_error_is_one_line(command, told, monkeypatch):
    with pytest.raises(SystemExit) as end:
        run(command)
    assert all(part in end.value.code for part in told) and "\n" not in end.value.code
    monkeypatch.setenv("XCIT_DENSE_TRACEBACK", "1")
    with pytest.raises((ValueError, KeyError, OSError)):
        run(command)


def test_a_log_that_cannot_be_written_ends_a_command(tmp_path, capsys):
    (tmp_path / "a.log").symlink_to("/dev/full")
    handler = logging.FileHandler(tmp_path / "a.log")

    def log(text, *values):
        handler.handle(logging.makeLogRecord({"msg": text, "args": values}))

    run(lambda: log("%d", "no number"))
    assert "TypeError" in capsys.readouterr().err
    with pytest.raises(SystemExit) as end:
        run(lambda: log("text"))
    assert end.value.code == f"error: {tmp_path}/a.log: No space left on device"
    with pytest.raises(OSError, match="No space left"):
        handler.close()


def test_a_stop_that_was_taken_for_an_error_is_a_stop(capsys):
    def command():
        try:
            raise KeyboardInterrupt
        except:  # noqa: E722  # as mmengine formats configs
            raise SyntaxError("Failed to format") from None

    with pytest.raises(SystemExit, match="130"):
        run(command)
    assert capsys.readouterr().err == "stopped\n"


@pytest.mark.parametrize(
    "code",
    [
        "def command(): os.kill(os.getpid(), signal.SIGINT); time.sleep(9)",
        "class Ignores:\n  def __del__(self): os.kill(os.getpid(), signal.SIGTERM)\n"
        "def command(): Ignores(); time.sleep(9)",
    ],
)
def test_a_stopped_command_says_so(code):
    """Also where it is stopped in a place where Python ignores exceptions."""
    code = f"import os, signal, time\nfrom xcit_dense.cli.main import run\n{code}\nrun(command)"
    root = Path(__file__).parents[2]
    done = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True)
    assert done.returncode == 130
    assert done.stderr.splitlines()[-1] == "stopped" and "Traceback" not in done.stderr

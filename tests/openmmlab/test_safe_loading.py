"""Checkpoints of mmengine load; files that would run code, or are damaged, are refused."""

import os
import pickle

import numpy as np
import pytest
import torch
from mmengine.logging import HistoryBuffer
from mmengine.runner import CheckpointLoader

import xcit_dense  # noqa: F401


def load(path):
    return CheckpointLoader.load_checkpoint(str(path), map_location="cpu")


def test_what_mmengine_writes_loads(tmp_path):
    history = HistoryBuffer([0.5, 0.25], [1, 2])
    checkpoint = {
        "state_dict": {"weight": torch.rand(3)},
        "message_hub": {"log_scalars": {"train/loss": history}, "runtime_info": {"iter": 7}},
        "meta": {"seed": np.int64(3), "score": np.float32(0.5), "classes": ("a", "b")},
    }
    torch.save(checkpoint, tmp_path / "iter_7.pth")
    loaded = load(tmp_path / "iter_7.pth")
    assert torch.equal(loaded["state_dict"]["weight"], checkpoint["state_dict"]["weight"])
    restored = loaded["message_hub"]["log_scalars"]["train/loss"]
    assert [list(part) for part in restored.data] == [[0.5, 0.25], [1, 2]]
    assert restored.statistics("mean", 2) == history.statistics("mean", 2)
    assert loaded["meta"] == checkpoint["meta"]


class CreatesFile:
    """Unpickled without protection, creates the file."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.system, (f"touch {self.path}",)


class ReachesThroughGetattr:
    """Tries to get at functions through the one attribute access that is allowed."""

    def __reduce__(self):
        return getattr, (HistoryBuffer, "__init__")


@pytest.mark.parametrize("kind", ["os.system", "getattr"])
def test_a_file_that_would_run_code_is_refused(tmp_path, kind):
    trace = tmp_path / "trace"
    hostile = CreatesFile(trace) if kind == "os.system" else ReachesThroughGetattr()
    torch.save({"state_dict": {"w": torch.zeros(1)}, "meta": hostile}, tmp_path / "hostile.pth")
    with pytest.raises(pickle.UnpicklingError, match=r"hostile\.pth: refused"):
        load(tmp_path / "hostile.pth")
    assert not trace.exists()


def test_the_refused_type_and_the_way_to_allow_it_are_named(tmp_path):
    torch.save({"meta": CreatesFile(tmp_path / "trace")}, tmp_path / "hostile.pth")
    with pytest.raises(pickle.UnpicklingError, match=r"system.*add_safe_globals"):
        load(tmp_path / "hostile.pth")


@pytest.mark.parametrize("damage", ["empty", "truncated", "text"])
def test_a_damaged_file_is_named(tmp_path, damage):
    path = tmp_path / "damaged.pth"
    torch.save({"state_dict": {"w": torch.rand(1000)}}, path)
    content = {"empty": b"", "truncated": path.read_bytes()[:2000], "text": b"not found"}[damage]
    path.write_bytes(content)
    with pytest.raises((RuntimeError, pickle.UnpicklingError), match=r"damaged\.pth"):
        load(path)


def test_a_missing_file_is_named():
    with pytest.raises(FileNotFoundError, match=r"nowhere\.pth: no such checkpoint"):
        load("nowhere.pth")

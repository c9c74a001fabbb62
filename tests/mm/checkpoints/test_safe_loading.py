"""Checkpoints of mmengine load; files that would run code, or are damaged, are refused."""

import io
import os
import pickle
import random
import subprocess
import tarfile
from collections import Counter, OrderedDict
from pathlib import PurePosixPath

import numpy as np
import pytest
import torch
from mmengine.config import ConfigDict
from mmengine.logging import HistoryBuffer
from mmengine.optim import OneCycleLR
from safetensors.torch import save_file

from xcit_dense.errors import UserError
from xcit_dense.weights.checkpoint_error import (
    DamagedCheckpointError,
    UnsafeCheckpointError,
)
from xcit_dense.weights.safe_loading import load_local_checkpoint


def load(path):
    return load_local_checkpoint(str(path), map_location="cpu")


class Calls:
    """Unpickled without protection, calls a function."""

    def __init__(self, function, *arguments):
        self.function, self.arguments = function, arguments

    def __reduce__(self):
        return self.function, self.arguments


def hostile_objects(trace):
    """Objects that make the file ``trace`` when they are unpickled, by what they use for it."""
    touch = Calls(os.system, f"touch {trace}")
    return {
        "system": touch,
        "subprocess": Calls(subprocess.call, ["touch", str(trace)]),
        "eval": Calls(eval, f"open({str(trace)!r}, 'w')"),
        "open": Calls(open, str(trace), "w"),
        "array of objects": np.array([[1, touch]], dtype=object),
        "key": {Calls(eval, f"open({str(trace)!r}, 'w')"): 1},
        "history": Calls(HistoryBuffer, [touch], [1]),
    }


def write(path, content, file_format):
    """Write a file as one of the formats that torch reads."""
    if file_format == "zip":
        torch.save(content, path)
    elif file_format == "legacy":
        torch.save(content, path, _use_new_zipfile_serialization=False)
    elif file_format == "pickle":
        path.write_bytes(pickle.dumps(content, protocol=2))
    elif file_format == "tar":
        data = pickle.dumps(content, protocol=2)
        with tarfile.open(path, "w") as archive:
            for name in ("sys_info", "pickle", "tensors", "storages"):
                entry = tarfile.TarInfo(name)
                entry.size = len(data)
                archive.addfile(entry, io.BytesIO(data))


class TestWhatLoads:
    def round_trip(self, value, tmp_path):
        torch.save({"value": value}, tmp_path / "checkpoint.pth")
        return load(tmp_path / "checkpoint.pth")["value"]

    @pytest.mark.parametrize(
        "value",
        [
            OrderedDict(a=1), Counter("ab"), {1, 2}, (1, "a", None), [2.5, 1j, True], b"ab", b"",
            bytearray(b"a"), 10**30, torch.Size([1, 2]), torch.float16, torch.device("cpu"),
            ConfigDict(a=ConfigDict(b=[1])), float("inf"), "ü",
        ],
        ids=lambda value: type(value).__name__,
    )  # fmt: skip
    def test_plain_values(self, value, tmp_path):
        loaded = self.round_trip(value, tmp_path)
        assert loaded == value
        assert type(loaded) is type(value)

    def test_the_log_history_goes_on_as_before(self, tmp_path):
        history = HistoryBuffer([0.5, 0.25], [1, 2])
        restored = self.round_trip(history, tmp_path)
        for buffer in (history, restored):
            buffer.update(0.125)
        assert [list(part) for part in restored.data] == [[0.5, 0.25, 0.125], [1, 2, 1]]
        for name in ("min", "max", "mean", "current"):
            assert restored.statistics(name) == history.statistics(name)
        assert pickle.dumps(restored.data) == pickle.dumps(history.data)

    def test_the_annealing_function_of_a_one_cycle_schedule(self, tmp_path):
        optimizer = torch.optim.SGD([torch.nn.Parameter(torch.ones(1))], lr=0.1)
        state = OneCycleLR(optimizer, eta_max=1.0, total_steps=10).state_dict()
        assert self.round_trip(state, tmp_path) == state

    @pytest.mark.parametrize("file_format", ["zip", "legacy"])
    def test_weights_of_both_formats_of_torch(self, tmp_path, file_format):
        write(tmp_path / "w.pth", {"state_dict": {"w": torch.arange(3)}}, file_format)
        assert load(tmp_path / "w.pth")["state_dict"]["w"].tolist() == [0, 1, 2]

    @pytest.mark.parametrize("name", ["w.safetensors", "w.pth"])
    def test_safetensors_under_any_name(self, tmp_path, name):
        save_file({"w": torch.arange(3)}, tmp_path / name)
        assert load(tmp_path / name)["w"].tolist() == [0, 1, 2]

    def test_tensors_go_where_they_are_wanted(self, tmp_path):
        torch.save({"w": torch.ones(1)}, tmp_path / "w.pth")
        save_file({"w": torch.ones(1)}, tmp_path / "w.safetensors")
        for name in ("w.pth", "w.safetensors"):
            loaded = load_local_checkpoint(str(tmp_path / name), map_location="meta")
            assert loaded["w"].is_meta


class TestWhatIsRefused:
    @pytest.mark.parametrize("file_format", ["zip", "legacy", "pickle", "tar"])
    @pytest.mark.parametrize("kind", hostile_objects(""))
    def test_no_code_runs(self, tmp_path, kind, file_format):
        trace = tmp_path / "trace"
        content = {"state_dict": {"w": torch.zeros(1)}, "meta": hostile_objects(trace)[kind]}
        write(tmp_path / "hostile.pth", content, file_format)
        with pytest.raises(UserError, match=r"hostile\.pth: (refused|damaged)"):
            load(tmp_path / "hostile.pth")
        assert not trace.exists()

    def test_the_hostile_files_of_this_test_do_run_code_without_protection(self, tmp_path):
        for kind, hostile in hostile_objects(tmp_path / "trace").items():
            torch.save({"meta": hostile}, tmp_path / "hostile.pth")
            torch.load(tmp_path / "hostile.pth", weights_only=False)
            assert (tmp_path / "trace").exists(), kind
            (tmp_path / "trace").unlink()

    def test_no_environment_variable_takes_the_protection_away(self, tmp_path, monkeypatch):
        monkeypatch.setenv("TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD", "1")
        torch.save(hostile_objects(tmp_path / "trace"), tmp_path / "hostile.pth")
        with pytest.raises(UnsafeCheckpointError):
            load(tmp_path / "hostile.pth")
        assert not (tmp_path / "trace").exists()

    def test_a_type_is_named_with_the_way_to_allow_it(self, tmp_path):
        torch.save({"meta": PurePosixPath("a")}, tmp_path / "own.pth")
        with pytest.raises(UnsafeCheckpointError) as error:
            load(tmp_path / "own.pth")
        assert str(error.value) == (
            f"{tmp_path}/own.pth: refused, loading it could run code. It names "
            "pathlib.PurePosixPath, which is no tensor and no plain value. If you trust the file: "
            "from pathlib import PurePosixPath; "
            "torch.serialization.add_safe_globals([PurePosixPath]) (docs/safety.md)"
        )
        assert isinstance(error.value, pickle.UnpicklingError)

    def test_types_that_are_allowed_knowingly_load_and_stay_allowed(self, tmp_path):
        content = {"meta": [PurePosixPath("a"), range(1, 9, 3), HistoryBuffer([1], [1])]}
        torch.save(content, tmp_path / "own.pth")
        with torch.serialization.safe_globals([PurePosixPath, range, HistoryBuffer]):
            for _ in range(2):
                assert load(tmp_path / "own.pth")["meta"][:2] == content["meta"][:2]
            assert HistoryBuffer in torch.serialization.get_safe_globals()

    def test_a_command_of_the_system_is_never_allowed(self, tmp_path):
        torch.save({"meta": Calls(os.system, "true")}, tmp_path / "hostile.pth")
        with (
            torch.serialization.safe_globals([os.system]),
            pytest.raises(UnsafeCheckpointError, match=r"asks for posix\.system, which is never"),
        ):
            load(tmp_path / "hostile.pth")

    @pytest.mark.parametrize(
        ("owner", "name"), [(HistoryBuffer, "__init__"), (HistoryBuffer, "update"), (dict, "get")]
    )
    def test_getattr_reaches_nothing_but_four_methods(self, tmp_path, owner, name):
        torch.save({"meta": Calls(getattr, owner, name)}, tmp_path / "hostile.pth")
        with pytest.raises(UnsafeCheckpointError, match=r"hostile\.pth: refused"):
            load(tmp_path / "hostile.pth")

    @pytest.mark.filterwarnings("ignore:`torch.jit")
    def test_a_program_of_torchscript_is_refused(self, tmp_path):
        torch.jit.trace(torch.nn.Linear(1, 1), torch.ones(1, 1)).save(tmp_path / "program.pth")
        with pytest.raises(UnsafeCheckpointError, match=r"program\.pth: refused, it is a TorchScr"):
            load(tmp_path / "program.pth")

    def test_an_archive_of_an_old_torch_is_refused_with_the_way_to_convert_it(self, tmp_path):
        write(tmp_path / "old.pth", {"w": 1}, "tar")
        with pytest.raises(UnsafeCheckpointError, match=r"very old torch.*weights_only=False"):
            load(tmp_path / "old.pth")


class TestWhatIsDamaged:
    @pytest.mark.parametrize("file_format", ["zip", "legacy"])
    @pytest.mark.parametrize("length", [0, 1, 10, 300, 2000, -1])
    def test_a_file_that_is_cut_short(self, tmp_path, length, file_format):
        path = tmp_path / "short.pth"
        write(path, {"state_dict": {"w": torch.rand(1000)}}, file_format)
        path.write_bytes(path.read_bytes()[:length])
        with pytest.raises(DamagedCheckpointError, match=r"short\.pth: damaged"):
            load(path)

    def test_a_changed_byte_in_the_weights_is_noticed(self, tmp_path):
        path = tmp_path / "changed.pth"
        torch.save({"state_dict": {"w": torch.rand(1000)}}, path)
        content = bytearray(path.read_bytes())
        content[len(content) // 2] ^= 1
        path.write_bytes(content)
        assert torch.load(path, weights_only=True)  # torch does not notice it
        with pytest.raises(DamagedCheckpointError, match=r"changed\.pth: damaged, .*data/0 in it"):
            load(path)

    @pytest.mark.filterwarnings("ignore:Detected pickle protocol")
    def test_whatever_is_changed_the_error_is_one_of_a_checkpoint(self, tmp_path):
        path = tmp_path / "changed.pth"
        chance = random.Random(0)
        history = HistoryBuffer([0.5], [1])
        write(path, {"w": torch.rand(9), "h": history, "n": np.float32(2)}, "legacy")
        whole = path.read_bytes()
        refused = 0
        for _ in range(400):
            content = bytearray(whole)
            for _ in range(chance.randint(1, 4)):
                content[chance.randrange(len(content))] = chance.randrange(256)
            path.write_bytes(content)
            try:
                load(path)
            except UserError:
                refused += 1
        assert refused > 100

    @pytest.mark.parametrize("content", [b"not found", b"<!DOCTYPE html>", b"PK\x03\x04", b"\x80"])
    def test_a_file_that_is_no_checkpoint(self, tmp_path, content):
        (tmp_path / "page.pth").write_bytes(content)
        with pytest.raises(DamagedCheckpointError, match=r"page\.pth: damaged"):
            load(tmp_path / "page.pth")

    def test_a_tensor_alone_is_no_checkpoint(self, tmp_path):
        torch.save(torch.ones(1), tmp_path / "tensor.pth")
        with pytest.raises(DamagedCheckpointError, match=r"it holds a Tensor, wanted a dict"):
            load(tmp_path / "tensor.pth")

    def test_safetensors_that_are_cut_short(self, tmp_path):
        save_file({"w": torch.rand(100)}, tmp_path / "w.safetensors")
        content = (tmp_path / "w.safetensors").read_bytes()
        (tmp_path / "w.safetensors").write_bytes(content[:-1])
        with pytest.raises(
            DamagedCheckpointError, match=r"w\.safetensors: damaged, or no safetens"
        ):
            load(tmp_path / "w.safetensors")

    def test_a_missing_file(self):
        with pytest.raises(FileNotFoundError, match=r"^nowhere\.pth: no such checkpoint file$"):
            load("nowhere.pth")

    def test_a_folder(self, tmp_path):
        with pytest.raises(UserError, match=r"cannot be read \(Is a directory\)"):
            load(tmp_path)

    @pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
    def test_a_file_that_may_not_be_read(self, tmp_path):
        (tmp_path / "secret.pth").touch(mode=0)
        with pytest.raises(UserError, match=r"cannot be read \(Permission denied\)"):
            load(tmp_path / "secret.pth")

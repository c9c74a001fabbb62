"""Checkpoints of mmengine load; files that would run code, or are damaged, are refused."""

import copy
import io
import os
import pickle
import random
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
from xcit_dense.weights.safe_loading import DamagedFileError, load_from_local

NUMBERS = "?bhilBHILefdgFDG"


def save(path, content, file_format="zip"):
    """Write a file in one of the formats that torch reads."""
    if file_format == "zip":
        torch.save(content, path)
    elif file_format == "legacy":
        torch.save(content, path, _use_new_zipfile_serialization=False)
    elif file_format == "safetensors":
        save_file(content, path)
    elif file_format == "pickle":
        path.write_bytes(pickle.dumps(content, protocol=2))
    elif file_format == "tar":
        data = pickle.dumps(content, protocol=2)
        with tarfile.open(path, "w") as archive:
            for name in ("sys_info", "pickle", "tensors", "storages"):
                entry = tarfile.TarInfo(name)
                entry.size = len(data)
                archive.addfile(entry, io.BytesIO(data))
    return path


def round_trip(value, tmp_path):
    return load_from_local(save(tmp_path / "file.pth", {"value": value}))["value"]


class TestWhatLoads:
    @pytest.mark.parametrize("file_format", ["zip", "legacy", "safetensors"])
    @pytest.mark.parametrize("device", ["cpu", "meta"])
    def test_weights_of_every_format_under_any_name(self, file_format, device, tmp_path):
        path = save(tmp_path / "w.pth", {"w": torch.arange(3)}, file_format)
        loaded = load_from_local(str(path), device)["w"]
        assert loaded.device.type == device
        assert loaded.shape == (3,)
        assert device == "meta" or loaded.tolist() == [0, 1, 2]

    @pytest.mark.parametrize(
        "value",
        [
            OrderedDict(a=1), Counter("ab"), {1, 2}, (1, "a", None), [2.5, 1j, True], b"ab", b"",
            bytearray(b"a"), 10**30, torch.Size([1, 2]), torch.float16, torch.device("cpu"),
            ConfigDict(a=ConfigDict(b=[1])), float("inf"), "ü", np.str_("ab"), np.bytes_(b"ab"),
        ],
        ids=lambda value: type(value).__name__,
    )  # fmt: skip
    def test_plain_values(self, value, tmp_path):
        loaded = round_trip(value, tmp_path)
        assert loaded == value
        assert type(loaded) is type(value)

    @pytest.mark.parametrize("code", NUMBERS)
    def test_arrays_of_every_type_and_layout(self, code, tmp_path):
        array = np.arange(6).reshape(2, 3).astype(code)
        swapped = array.astype(array.dtype.newbyteorder())
        layouts = [array, np.asfortranarray(array), array[:, ::2], array[:0], array[0, 0], swapped]
        for wanted, loaded in zip(layouts, round_trip(layouts, tmp_path), strict=True):
            assert np.array_equal(loaded, wanted)
            assert (loaded.dtype, loaded.shape) == (wanted.dtype.newbyteorder("="), wanted.shape)

    def test_a_loaded_array_is_pickled_and_copied_as_a_plain_one(self, tmp_path):
        array = np.arange(6.0).reshape(2, 3)
        loaded = round_trip(array, tmp_path)
        assert pickle.dumps(loaded) == pickle.dumps(array)  # mmengine compares metainfo so
        assert np.array_equal(copy.deepcopy(loaded), array)

    def test_what_mmengine_keeps_goes_on_as_before(self, tmp_path):
        optimizer = torch.optim.SGD([torch.nn.Parameter(torch.ones(1))], lr=0.1)
        schedule = OneCycleLR(optimizer, eta_max=1.0, total_steps=10).state_dict()
        history = HistoryBuffer([0.5, 0.25], [1, 2])
        restored_schedule, restored = round_trip([schedule, history], tmp_path)
        assert restored_schedule == schedule
        for buffer in (history, restored):
            buffer.update(0.125)
        assert pickle.dumps(restored.data) == pickle.dumps(history.data)
        for name in ("min", "max", "mean", "current"):
            assert restored.statistics(name) == history.statistics(name)

    def test_a_type_that_is_allowed_knowingly_loads_and_stays_allowed(self, tmp_path):
        content = [PurePosixPath("a"), HistoryBuffer([1], [1])]
        with torch.serialization.safe_globals([PurePosixPath, HistoryBuffer]):
            for _ in range(2):
                assert round_trip(content, tmp_path)[0] == content[0]
            assert HistoryBuffer in torch.serialization.get_safe_globals()

    def test_a_config_in_python_is_left_out(self, tmp_path):
        path = save(tmp_path / "old.pth", {"meta": {"config": "import os", "epoch": 1}})
        assert load_from_local(path)["meta"] == {"epoch": 1}  # mmengine would run the config


class Calls:
    """Unpickled without protection, calls a function and sets the state of what it returns."""

    def __init__(self, function, *arguments, state=None):
        self.function, self.arguments, self.state = function, arguments, state

    def __reduce__(self):
        return self.function, self.arguments, self.state


RECONSTRUCT, SCALAR = np.zeros(1).__reduce__()[0], np.float64(0).__reduce__()[0]
ADDRESS = bytes(8)
FORGED_DTYPE = Calls(np.dtype, "O8", False, True, state=(3, "|", None, None, None, -1, -1, 0))


def forged(shape, dtype, content):
    """What a pickle of an array says: these numbers, of this type, in these bytes."""
    return Calls(RECONSTRUCT, np.ndarray, (0,), b"b", state=(1, shape, dtype, False, content))


TOUCH = Calls(os.system, "touch trace")
RUNS_CODE = {
    "system": TOUCH,
    "eval": Calls(eval, "open('trace', 'w')"),
    "open": Calls(open, "trace", "w"),
    "in an array of objects": np.array([[1, TOUCH]], dtype=object),
    "in a key": {Calls(eval, "open('trace', 'w')"): 1},
    "in a log history": Calls(HistoryBuffer, [TOUCH], [1]),
}
# with numpy's own unpickling the first three make numpy follow an address of the file's choice
FORGED = {
    "objects over bytes": Calls(np.ndarray, (1,), "O", ADDRESS),
    "objects that say they are none": forged((1,), FORGED_DTYPE, ADDRESS),
    "a record of objects": Calls(SCALAR, np.dtype([("a", "O")]), ADDRESS),
    "too few bytes": forged((1000,), np.dtype("f8"), ADDRESS),
    "more items than a size can count": forged((2**32, 2**32), np.dtype("f8"), b""),
    "a scalar of too few bytes": Calls(SCALAR, np.dtype("f8"), b"1"),
    "an array of objects": np.array([None]),
    "a method that mmengine does not keep": Calls(getattr, HistoryBuffer, "update"),
    "a method of another type": Calls(getattr, dict, "get"),
    "a class": PurePosixPath("a"),
}


class TestWhatIsRefused:
    @pytest.mark.parametrize("file_format", ["zip", "legacy", "pickle", "tar"])
    @pytest.mark.parametrize("kind", [*RUNS_CODE, *FORGED])
    def test_no_code_runs(self, kind, file_format, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        monkeypatch.setenv("TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD", "1")
        content = {"state_dict": {"w": torch.zeros(1)}, "meta": (RUNS_CODE | FORGED)[kind]}
        path = save(tmp_path / "hostile.pth", content, file_format)
        with pytest.raises(UserError, match=str(path)):
            load_from_local(str(path))
        assert not (tmp_path / "trace").exists()

    @pytest.mark.parametrize("kind", RUNS_CODE)
    def test_these_files_do_run_code_without_protection(self, kind, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        path = save(tmp_path / "hostile.pth", {"meta": RUNS_CODE[kind]})
        torch.load(path, weights_only=False)
        assert (tmp_path / "trace").exists()

    @pytest.mark.parametrize(
        ("value", "named"),
        [(PurePosixPath("a"), "PurePosixPath"), (TOUCH, "posix.system"), (np.array([None]), "O8")],
    )
    def test_the_error_names_what_is_refused_and_where_to_read_on(self, value, named, tmp_path):
        with pytest.raises(UserError, match=f"refused.*{named}.*docs/safety") as error:
            round_trip(value, tmp_path)
        assert "\n" not in str(error.value)
        assert not isinstance(error.value, pickle.UnpicklingError)  # mmengine's fork tries again

    def test_a_command_of_the_system_cannot_be_allowed(self, tmp_path):
        with torch.serialization.safe_globals([os.system]), pytest.raises(UserError, match="posix"):
            round_trip(TOUCH, tmp_path)

    @pytest.mark.filterwarnings("ignore:.torch")
    def test_a_program_of_torchscript(self, tmp_path):
        torch.jit.trace(torch.nn.Linear(1, 1), torch.ones(1, 1)).save(tmp_path / "program.pth")
        with pytest.raises(UserError, match=r"refused.*TorchScript"):
            load_from_local(tmp_path / "program.pth")


class TestWhatIsDamaged:
    @pytest.mark.parametrize("file_format", ["zip", "legacy", "safetensors"])
    @pytest.mark.parametrize("length", [0, 10, 2000, -1])
    def test_a_file_that_is_cut_short(self, length, file_format, tmp_path):
        path = save(tmp_path / "short.pth", {"w": torch.rand(1000)}, file_format)
        path.write_bytes(path.read_bytes()[:length])
        with pytest.raises(UserError, match=r"short\.pth: "):
            load_from_local(path)

    def test_a_changed_byte_in_the_weights_is_noticed(self, tmp_path):
        path = save(tmp_path / "changed.pth", {"w": torch.rand(1000)})
        content = bytearray(path.read_bytes())
        content[len(content) // 2] ^= 1
        path.write_bytes(content)
        assert torch.load(path, weights_only=True)  # torch does not notice it
        with pytest.raises(DamagedFileError, match=r"changed\.pth: damaged.*data/0"):
            load_from_local(path)

    @pytest.mark.filterwarnings("ignore:Detected pickle protocol")
    def test_whatever_is_changed_the_error_is_one_of_a_checkpoint(self, tmp_path):
        content = {"w": torch.rand(9), "h": HistoryBuffer([0.5], [1]), "n": np.float32(2)}
        path = save(tmp_path / "changed.pth", content, "legacy")
        whole, chance, refused = path.read_bytes(), random.Random(0), 0
        for _ in range(100):
            changed = bytearray(whole)
            for _ in range(chance.randint(1, 4)):
                changed[chance.randrange(len(changed))] = chance.randrange(256)
            path.write_bytes(changed)
            try:
                load_from_local(path)
            except UserError:
                refused += 1
        assert refused > 25

    @pytest.mark.parametrize("content", [b"not found", b"<!DOCTYPE html>", b"PK\x03\x04", b"\x80"])
    def test_a_file_that_is_no_checkpoint(self, content, tmp_path):
        (tmp_path / "page.pth").write_bytes(content)
        with pytest.raises(DamagedFileError, match=r"page\.pth: damaged"):
            load_from_local(tmp_path / "page.pth")

    def test_a_tensor_alone_is_no_checkpoint(self, tmp_path):
        with pytest.raises(DamagedFileError, match=r"tensor\.pth.*Tensor"):
            load_from_local(save(tmp_path / "tensor.pth", torch.ones(1)))

    def test_what_cannot_be_read(self, tmp_path):
        with pytest.raises(FileNotFoundError, match=r"nowhere\.pth"):
            load_from_local("nowhere.pth")
        with pytest.raises(UserError, match="cannot be read"):
            load_from_local(tmp_path)

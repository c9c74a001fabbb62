"""Checkpoints of mmengine load; files that would run code, or are damaged, are refused."""

import copy
import io
import os
import pickle
import random
import struct
import tarfile
import warnings
import zipfile
from collections import Counter, OrderedDict
from pathlib import Path, PurePosixPath

import numpy as np
import pytest
import torch
from dev.fuzz.crafted_checkpoints import (
    OPCODES,
    Call,
    named_storage,
    opcodes_of,
    outcome,
    write_archive,
)
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

    def test_a_statistic_of_the_user_is_left_out_of_a_history(self, tmp_path):
        history = HistoryBuffer([0.5], [1])
        history._statistics_methods = {"own": round_trip}  # as HistoryBuffer.register_statistics
        assert round_trip(history, tmp_path).mean() == 0.5

    @pytest.mark.parametrize("file_format", ["zip", "legacy"])
    def test_tensors_of_every_kind(self, file_format, tmp_path):
        shared = torch.arange(12.0)
        tensors = {
            "view": shared.reshape(3, 4).t()[1:], "part": shared[5:7], "nothing": shared[12:],
            "expanded": torch.ones(1).expand(1000), "scalar": torch.tensor(2),
            "parameter": torch.nn.Parameter(torch.ones(2)), "bool": torch.tensor([True, False]),
            "half": torch.ones(3, dtype=torch.bfloat16), "empty": torch.ones(0, 3),
            "complex": torch.ones(1, dtype=torch.cfloat),
            "long": torch.tensor([2**62]), "uint16": torch.ones(1, dtype=torch.uint16),
        }  # fmt: skip
        loaded = load_from_local(save(tmp_path / "w.pth", tensors, file_format))
        for name, tensor in tensors.items():
            assert torch.equal(loaded[name], tensor), name
            assert type(loaded[name]) is type(tensor)
            assert loaded[name].stride() == tensor.stride()
            assert loaded[name].requires_grad == tensor.requires_grad
        loaded["part"][0] = 7  # in memory only, and for all that share it
        assert loaded["view"][0, 1] == 7
        assert load_from_local(tmp_path / "w.pth")["part"][0] == 5

    def test_versions_of_modules_stay_with_a_state_dict(self, tmp_path):
        state_dict = torch.nn.BatchNorm1d(2).state_dict()
        assert round_trip(state_dict, tmp_path)._metadata == state_dict._metadata

    def test_what_is_shared_stays_shared(self, tmp_path):
        item = (1, 2)
        first, second = round_trip([item, item], tmp_path)
        assert first is second  # mmengine compares metainfo pickled

    @pytest.mark.parametrize("to", [None, "meta", {"cpu": "meta"}, lambda storage, _: storage])
    def test_where_tensors_go(self, to, tmp_path):
        path = save(tmp_path / "w.pth", {"w": torch.ones(3)})
        expected = torch.load(path, map_location=to)["w"].device
        assert load_from_local(path, to)["w"].device == expected

    def test_a_file_of_python_2(self, tmp_path):
        pairs = [b"U\x01a" + opcodes_of(1), b"U\x01b" + opcodes_of(2)]
        pairs = b"](" + b"".join(b"](" + pair + b"e" for pair in pairs) + b"e"
        write_archive(tmp_path / "old.pth", Call("collections.OrderedDict", (pairs,)))
        assert load_from_local(tmp_path / "old.pth") == OrderedDict(a=1, b=2)

    def test_a_file_that_is_trusted_may_hold_anything(self, tmp_path, monkeypatch):
        monkeypatch.setenv("XCIT_DENSE_TRUST_CHECKPOINTS", "1")
        assert round_trip(PurePosixPath("a"), tmp_path) == PurePosixPath("a")

    def test_a_config_in_python_is_left_out(self, tmp_path):
        path = save(tmp_path / "old.pth", {"meta": {"config": "import os", "epoch": 1}})
        assert load_from_local(path)["meta"] == {"epoch": 1}  # mmengine would run the config

    def test_attributes_of_a_dict_are_left_out(self, tmp_path):
        meta = Call("collections.OrderedDict", (), {"pop": "own", "_metadata": {}})
        write_archive(tmp_path / "file.pth", {"meta": meta})
        assert load_from_local(tmp_path / "file.pth")["meta"].pop != "own"


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
        [
            ([PurePosixPath("a")], "pathlib.PurePosixPath at value.0"),
            ({"b": TOUCH}, "posix.system at value.b"),
            (np.array([None]), "O8 at value"),
        ],
    )
    def test_the_error_names_what_is_refused_and_where_to_read_on(self, value, named, tmp_path):
        with pytest.raises(UserError, match=f"refused.*{named}.*docs/safety") as error:
            round_trip(value, tmp_path)
        assert "\n" not in str(error.value)
        assert not isinstance(error.value, pickle.UnpicklingError)  # mmengine's fork tries again

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

    @pytest.mark.parametrize(
        ("content", "named"),
        [
            ({"state_dict": {3: torch.ones(1)}}, "state_dict has a key that is no text, 3"),
            ({"state_dict": {"w": "text"}}, "state_dict.w is a str, no tensor"),
            ({"state_dict": []}, "state_dict is a list"),
            ({"meta": [1], "state_dict": {}}, "meta is a list"),
            ({"meta": {"iter": 10**12}, "state_dict": {}}, "meta.iter"),
            ({"message_hub": None, "state_dict": {}}, "message_hub is a NoneType"),
        ],
    )
    def test_parts_of_another_kind_are_named(self, content, named, tmp_path):
        torch.save(content, tmp_path / "file.pth")
        with pytest.raises(DamagedFileError, match=rf"file\.pth: .*{named}"):
            load_from_local(tmp_path / "file.pth")

    def test_a_tensor_alone_is_no_checkpoint(self, tmp_path):
        with pytest.raises(DamagedFileError, match=r"tensor\.pth.*Tensor"):
            load_from_local(save(tmp_path / "tensor.pth", torch.ones(1)))

    def test_what_cannot_be_read(self, tmp_path):
        with pytest.raises(FileNotFoundError, match=r"nowhere\.pth"):
            load_from_local("nowhere.pth")
        os.mkfifo(tmp_path / "pipe")
        for path in (tmp_path, tmp_path / "pipe", "/dev/zero", "/proc/self/mem"):
            with pytest.raises(UserError, match="cannot be read"):
                load_from_local(path)


TENSOR, ARRAY = "torch._utils._rebuild_tensor_v2", "numpy._core.multiarray._reconstruct"
HISTORY = "mmengine.logging.history_buffer.HistoryBuffer"
CONFIG, BYTES = "mmengine.config.config.ConfigDict", "_codecs.encode"
LEVELS = b"".join(b"q%ch%c\x86" % (level, level) for level in range(50))  # pairs of the same


def tensor(size=(4,), stride=(1,), offset=0, **named):
    return Call(TENSOR, (named_storage(**named), offset, size, stride, False, None))


def array(shape, text, dtype="f8"):
    state = (1, shape, Call("numpy.dtype", (dtype,)), False, Call(BYTES, (text, "latin1")))
    return Call(ARRAY, (), state)


def repeated(value, use):
    """A list of a value, and then of what is made of it thousands of times."""
    return b"](" + opcodes_of(value) + b"q\x00" + opcodes_of(use) * 9000 + b"e"


# each took, or would take, a shell command, a crash, all memory, or hours
HOSTILE_PICKLES = {
    "torch calls what a tensor is rebuilt by": Call(
        "torch._tensor._rebuild_from_type_v2", (Call("posix.system"), 0, ("touch trace",), {})
    ),
    "a function through a method": Call("builtins.getattr", (Call(HISTORY), "current")),
    "an attribute of a class": opcodes_of(Call(CONFIG)) + opcodes_of({"copy": 1}) + b"b",
    "a state of a list": b"]" + opcodes_of({"append": 1}) + b"b",
    "a call of what is no function": b"](K\x01tR",
    "a key of pairs of pairs": b"})" + LEVELS + b"K\x01s",
    "a set of pairs of pairs": Call("builtins.set", (b"](" + b")" + LEVELS + b"e",)),
    "a name of pairs of pairs": tensor(key=b")" + LEVELS),
    "pairs of pairs": b")" + LEVELS,
    "nested tuples": b")" + b"\x85" * 300_000,
    "nested tuples as a key": b"})" + b"\x85" * 300_000 + b"K\x01s",
    "nested lists": b"]" * 200_000 + b"a" * 199_999,
    "nested dicts": b"}K\x01" * 10**5 + b"N" + b"s" * 10**5,
    "nested lists that are made from within": b"](]q\x00" + b"](h\x00eq\x00" * 200 + b"e",
    "a list in itself": b"]q\x00h\x00a",
    "a dict in itself": b"}q\x00K\x01h\x00s",
    "a tensor in its own arguments": b"]q\x00" + opcodes_of(Call("torch.Size", (b"h\x00",))) + b"a",
    "8 GB of bytearray": Call("builtins.bytearray", (8 * 2**30,)),
    "8 GB of bytes": Call("builtins.bytes", (8 * 2**30,)),
    "a text made bytes again and again": repeated("x" * 2**20, Call(BYTES, (b"h\x00", "latin1"))),
    "an array again and again": repeated(
        array((2**17,), "\0" * 2**20).state, opcodes_of(Call(ARRAY, ())) + b"h\x00b"
    ),
    "dicts of a dict": repeated(
        dict.fromkeys(map(str, range(10**4)), 1), Call(CONFIG, (b"h\x00",))
    ),
    "a dict of a dict ninety times": repeated(
        dict.fromkeys(map(str, range(10**4)), 1), Call(CONFIG, (b"h\x00" * 90,))
    ),
    "histories of a history": repeated(
        dict.fromkeys(["_log_history", "_count_history"], array((2**17,), "\0" * 2**20))
        | {"max_length": 9},
        opcodes_of(Call(HISTORY, ())) + b"h\x00b",
    ),
    "numbers whose hashes are equal": dict.fromkeys((2**61 - 1) * n for n in range(20_000)),
    "numbers as keys": dict.fromkeys(range(60_000)),
    "a memo with gaps": b"Nr\xff\xff\xff\x7f",
    "arguments that are shared": b"]((" + b"}" * 200_000 + b"tq\x00" + b"}h\x00R" * 200_000 + b"e",
    "millions of values": b"](" + b"N" * 2_000_000 + b"e",
    "a tensor of 10^12": tensor((10**12,), (0,)),
    "a size below 0": tensor((-4,)),
    "a stride below 0": tensor((4,), (-1,), 3),
    "an offset below 0": tensor(offset=-1),
    "an offset beyond": tensor((0,), offset=5),
    "more than the storage": tensor((5,)),
    "sizes that overflow": tensor((2**40, 2**40, 0), (1, 1, 1)),
    "strides that overflow": tensor((2, 2), (2**63, 2**63)),
    "a storage of another size": tensor(count=10**12),
    "a storage below 0": tensor(count=-4),
    "a storage that is not there": tensor(key="7"),
    "a device that is none": tensor(location=b"]"),
    "numbers of four bits": Call(
        "torch._utils._rebuild_tensor_v3",
        (named_storage("Untyped", count=16), 0, (4,), (1,), False, None, Call("torch.uint4")),
    ),
    "a version that is no number": Call(
        "collections.OrderedDict", (), {"_metadata": {"": {"version": "2"}}}
    ),
    "quantized numbers": tensor(dtype="QInt8", count=16),
    "a truth value of 255": array((1,), "\xff", "b1"),
    "a dtype of gigabytes": array((0,), "", "U999999999"),
    "an array of sizes below 0": array((-1, -1), "\0" * 8),
    "a history of objects": Call(
        HISTORY, (), {"_log_history": [], "_count_history": [], "max_length": 1}
    ),
}  # fmt: skip
ALLOWED_OPCODES = {
    "PROTO", "STOP", "MARK", "NONE", "NEWTRUE", "NEWFALSE", "BININT", "BININT1", "BININT2", "LONG1",
    "BINFLOAT", "BINUNICODE", "SHORT_BINSTRING", "EMPTY_TUPLE", "TUPLE", "TUPLE1", "TUPLE2",
    "TUPLE3", "EMPTY_LIST", "APPEND", "APPENDS", "EMPTY_DICT", "SETITEM", "SETITEMS", "BINPUT",
    "LONG_BINPUT", "BINGET", "LONG_BINGET", "GLOBAL", "REDUCE", "NEWOBJ", "BUILD", "BINPERSID",
}  # fmt: skip


class TestNoHarm:
    """In a process with limits of time and memory, since what is guarded against would end it."""

    @pytest.fixture(autouse=True)
    def _without_warnings_of_forking(self, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
        assert not os.path.exists("trace")

    @pytest.mark.parametrize("kind", HOSTILE_PICKLES)
    def test_a_pickle_is_refused(self, kind):
        write_archive("file.pth", {"meta": HOSTILE_PICKLES[kind]})
        assert outcome("file.pth").startswith("refused: ")

    def test_opcodes_that_no_checkpoint_has(self):
        for name in set(OPCODES) - ALLOWED_OPCODES:
            pushed = b"(cposix\nsystem\nX\x0b\0\0\0touch trace"
            write_archive("file.pth", {"meta": pushed + OPCODES[name] + b"1\n1\n" + bytes(9)})
            with pytest.raises(UserError):
                load_from_local("file.pth")

    @pytest.mark.parametrize(
        ("key", "value"), [("iter", 10**12), ("epoch", -1), ("iter", "1"), ("seed", 2**32)]
    )
    def test_progress_that_no_run_makes(self, key, value):
        save_to = save(Path("file.pth"), {"meta": {key: value}})
        with pytest.raises(DamagedFileError, match=f"meta.{key}"):
            load_from_local(save_to)

    def write_zip(self, names=("a/data.pkl",), compression=zipfile.ZIP_STORED):
        with zipfile.ZipFile("file.pth", "w", compression) as archive, warnings.catch_warnings():
            warnings.simplefilter("ignore")
            for name in names:
                archive.writestr(name, b"\x80\x02}.")
        return bytearray(Path("file.pth").read_bytes())

    def test_archives_that_torch_does_not_write(self):
        assert self.write_zip()
        assert outcome("file.pth") == "fine"
        self.write_zip(compression=zipfile.ZIP_DEFLATED)
        assert "compressed" in outcome("file.pth")
        for names in (["a/data.pkl"] * 2, ["a/data.pkl", "b/data.pkl"]):
            self.write_zip(names)
            assert "twice" in outcome("file.pth")
        content = self.write_zip(["a/data.pkl", "a/x"])
        second = content.rindex(b"PK\1\2")
        struct.pack_into("<I", content, second + 42, 0)  # begins where the first does
        Path("file.pth").write_bytes(content)
        assert "overlaps" in outcome("file.pth")
        entry = bytes(content[content.index(b"PK\1\2") : second])
        entries = entry * 400_000
        end = struct.pack("<4s4H2IH", b"PK\5\6", 0, 0, 65535, 65535, len(entries), 0, 0)
        Path("file.pth").write_bytes(entries + end)
        assert "members" in outcome("file.pth")

    @pytest.mark.parametrize("header", [b"{" + b" " * 2**25, b"{" + b'"a":[' * 10**5, b'{"a":1}'])
    def test_headers_of_safetensors(self, header):
        Path("file.pth").write_bytes(struct.pack("<Q", len(header)) + header)
        assert outcome("file.pth").startswith("refused: ")

    def test_a_storage_twice_in_an_older_file(self):
        path = save(Path("file.pth"), {"w": torch.ones(4)}, "legacy")
        content = path.read_bytes()
        keys = content.rindex(b"]q")
        key = content[content.index(b"X", keys) : content.index(b"q\x01a.", keys)]
        path.write_bytes(content[:keys] + b"](" + key * 9 + b"e." + content[-24:] * 9)
        with pytest.raises(DamagedFileError, match="twice"):
            load_from_local(path)

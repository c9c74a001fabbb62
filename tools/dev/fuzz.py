"""Load generated checkpoints, each in a process of its own with limits, and count what happens.

    python tools/dev/fuzz.py --count 2000 --seed 0

A checkpoint is a pickle of a grammar that knows every name that the reader knows, and names that
run code, in an archive with what can be wrong in one; or a good file with changed bytes. Looked
for: code run (a canary), hangs, crashes, memory, files changed, and errors of other kinds. Such
files are kept.
"""

import argparse
import copy
import os
import pickle
import pickletools
import random
import resource
import signal
import tempfile
import zipfile
from collections import Counter
from pathlib import Path
from typing import Any, NamedTuple

import torch
from mmengine.config import ConfigDict
from mmengine.logging import HistoryBuffer
from safetensors.torch import save_file

from xcit_dense.errors import UserError
from xcit_dense.weights import data_only_reader
from xcit_dense.weights.safe_loading import load_from_local

SECONDS, MEMORY = 10, 2 * 2**30  # the limits of a process, above what importing takes
OPCODES = {opcode.name: opcode.code.encode("latin-1") for opcode in pickletools.opcodes}


class Call(NamedTuple):
    """What a pickle would call, or with no arguments only names."""

    name: str
    args: Any = None
    state: Any = None


def opcodes_of(value: Any) -> bytes:
    """The opcodes that put a value on the stack; bytes stand for themselves."""
    if isinstance(value, bytes):
        return value
    if isinstance(value, Call):
        module, _, name = value.name.rpartition(".")
        args = b"" if value.args is None else opcodes_of(value.args) + b"R"
        state = b"" if value.state is None else opcodes_of(value.state) + b"b"
        return f"c{module}\n{name}\n".encode() + args + state
    if isinstance(value, dict):
        return b"}(" + b"".join(opcodes_of(part) for pair in value.items() for part in pair) + b"u"
    if isinstance(value, (tuple, list)):
        start, end = (b"](", b"e") if isinstance(value, list) else (b"(", b"t")
        return start + b"".join(map(opcodes_of, value)) + end
    return pickletools.optimize(pickle.dumps(value, protocol=2))[2:-1]  # without PROTO and STOP


def named_storage(dtype: str = "Float", key: Any = "0", location: Any = "cpu", count: Any = 4):
    """The opcodes that name a storage."""
    return opcodes_of(("storage", Call(f"torch.{dtype}Storage"), key, location, count)) + b"Q"


def write_archive(path: str | Path, content: Any, members: dict[str, bytes] | None = None) -> None:
    """Write a checkpoint of torch from opcodes, with one storage of 16 bytes, or with others."""
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a/data.pkl", b"\x80\x02" + opcodes_of(content) + b".")
        for name, data in ({"data/0": bytes(16)} if members is None else members).items():
            archive.writestr(f"a/{name}", data)


LEAVES = ["", "a", "0", "latin1", 0, 1, -1, 4, 255, 2**31, 0.5, float("nan"), None, True, False]
WILD = [2**62, 2**64, 10**12, 10**30, 1e300, "O8", "x" * 10**5, b"]", b"}", b")", b"h\x00", (), []]
SIZES, WILD_SIZES = [1, 1, 2, 2, 4], [0, 3, 5, -1, 2**20, 10**12, 2**62, 2**63, "a"]
CORE = "numpy._core.multiarray"


class Grammar:
    """Random checkpoints, in which more or less is as no checkpoint is."""

    def __init__(self, seed: int, canary: Path) -> None:
        self.chance, self.wildness, touch = random.Random(seed), 0.0, f"touch {canary}"
        self.hostile = [
            Call("os.system", (touch,)), Call("posix.system", (touch,)), Call("posix.system"),
            Call("builtins.eval", (f"open({str(canary)!r}, 'w')",)),
            Call("torch._tensor._rebuild_from_type_v2", (Call("posix.system"), 0, (touch,), {})),
        ]  # fmt: skip

    def choose(self, usual: list, wild: list) -> Any:
        """One of what is usual, or sometimes one of what is not."""
        return self.chance.choice(wild if self.chance.random() < self.wildness else usual)

    def value(self, depth: int = 0) -> Any:
        if depth > 5 or self.chance.random() < 0.3:
            return self.choose(LEAVES, WILD)
        usual = [self.items, self.dict, self.plain_call, self.tensor, self.array, self.history]
        return self.choose(usual, [self.any_call, self.shared, self.any_opcode])(depth + 1)

    def items(self, depth: int) -> tuple | list:
        values = [self.value(depth) for _ in range(self.chance.randrange(5))]
        return self.chance.choice([tuple, list])(values)

    def dict(self, depth: int) -> bytes:
        pairs = [(self.choose(LEAVES, WILD), self.value(depth)) for _ in range(3)]
        return b"}(" + b"".join(opcodes_of(part) for pair in pairs for part in pair) + b"u"

    def plain_call(self, depth: int) -> Call:
        dicts = ("collections.OrderedDict", "collections.Counter", data_only_reader._CONFIG_DICT)
        usual = [
            *(Call(name, (self.dict(depth),)) for name in dicts), Call("torch.float16"),
            Call("builtins.set", (["a", 1],)), Call("builtins.complex", (0.5, 1.0)),
            Call("torch.Size", ((1, 2),)), Call("torch.device", ("cpu",)), Call(dicts[0], ()),
            Call("_codecs.encode", ("a", "latin1")), Call("builtins.bytearray", ()),
            Call(dicts[0], (), {"_metadata": self.dict(depth)}),
        ]  # fmt: skip
        return self.choose(usual, self.hostile)

    def any_call(self, depth: int) -> Call:
        known = [*data_only_reader._WITH_CONTENT, *data_only_reader._CALLED]
        known += [*data_only_reader._DTYPES, "torch.FloatStorage", "numpy.ndarray", "os.system"]
        name = self.chance.choice([name for name in known if "." in name])
        args = self.chance.choice([tuple(self.items(depth)), self.items(depth), None])
        return Call(name, args, self.chance.choice([None, None, self.value(depth)]))

    def sizes(self) -> tuple:
        return tuple(self.choose(SIZES, WILD_SIZES) for _ in range(self.chance.randrange(3)))

    def tensor(self, depth: int) -> Call:
        dtype, count = self.choose([("Float", 4), ("Bool", 16)], [("Float", 5), ("Q", 4), ("X", 1)])
        named = named_storage(
            dtype, self.choose(["0"], ["1", 0, b"]"]), self.choose(["cpu"], ["cuda:0", "x", b"]"]),
            self.choose([count], WILD_SIZES),
        )  # fmt: skip
        size = self.sizes()
        stride = self.choose([(1,) * len(size)], [self.sizes()])
        args = [named, self.choose([0], WILD_SIZES), size, stride, False, None]
        version, more = self.choose([("_v2", []), ("_v3", [Call("torch.uint8")])], [("", [1])])
        args = self.choose([args + more], [[*args, self.value(depth)], args[:3]])
        tensor = Call(f"torch._utils._rebuild_tensor{version}", tuple(args))
        return self.choose(
            [tensor], [Call("torch._utils._rebuild_parameter", (tensor, True, None))]
        )

    def array(self, depth: int, count: int = 1) -> Call:
        kinds = [("f8", 8), ("i4", 4)] if count > 1 else [("b1", 1), ("U2", 8)]
        kind, size = self.choose(kinds, [("O8", 8), ("M8", 8), ("V4", 4), ("f16", 16), (1, 1)])
        order = self.choose(["<", ">", "|"], ["O", 1, None])
        dtype = Call("numpy.dtype", (kind, False, True), (3, order, None, None, None, -1, -1, 0))
        text = self.choose(["\0"], ["\xff", "\u1234"]) * (count * size)
        content = self.choose([Call("_codecs.encode", (text, "latin1"))], [self.value(depth)])
        if count == 1 and self.chance.random() < 0.5:
            return Call(f"{CORE}.scalar", (dtype, content))
        shape = self.choose([(count,)], [self.sizes()])
        empty = (Call("numpy.ndarray"), (0,), "b")
        return Call(f"{CORE}._reconstruct", empty, (1, shape, dtype, False, content))

    def history(self, depth: int) -> Call:
        array = self.array(depth, 2)
        state = {"_log_history": array, "_count_history": self.choose([array], [self.value(depth)])}
        state["max_length"] = self.choose([10**6], [self.value(depth)])
        state["statistics_methods"] = {"own": self.chance.choice(self.hostile)}
        return Call("mmengine.logging.history_buffer.HistoryBuffer", (), state)

    def shared(self, depth: int) -> bytes:
        twice = [b"q\x00h\x00\x86", b"q\x00](h\x00h\x00e", b"\x85", b"]q\x00h\x00a"]
        times = self.chance.choice([1, 8, 70, 10**5])
        return opcodes_of(self.value(depth)) + self.chance.choice(twice) * times

    def any_opcode(self, depth: int) -> bytes:
        opcode = OPCODES[self.chance.choice([*OPCODES])]
        argument = self.chance.randbytes(self.chance.choice([0, 0, 1, 4]))
        return opcodes_of(self.value(depth)) + opcode + argument

    def write(self, path: Path, whole: list[bytes]) -> None:
        """Write the next checkpoint: of the grammar, or one of whole files with changed bytes."""
        draw = self.chance.random()
        if draw < 0.2:
            content = bytearray(self.chance.choice(whole))
            for _ in range(self.chance.randint(1, 6)):
                content[self.chance.randrange(len(content))] = self.chance.randrange(256)
            path.write_bytes(content[: self.chance.choice([len(content), len(content) // 2])])
            return
        self.wildness = self.chance.choice([0.0, 0.005, 0.02, 0.1, 0.3])
        meta = {"epoch": self.choose([1], WILD_SIZES), "iter": self.choose([1], WILD_SIZES)}
        meta["more"] = [self.value() for _ in range(4)]
        members = {"data/0": bytes(16), "data/1": b"\2" * 16, "byteorder": b"little"}
        write_archive(path, {"meta": meta, "state_dict": self.value()}, members)
        if draw < 0.35:  # what the archive says of its members, where no check sum is over it
            content = bytearray(path.read_bytes())
            start = content.index(b"PK\1\2")
            for _ in range(self.chance.randint(1, 6)):
                content[self.chance.randrange(start, len(content))] = self.chance.randrange(256)
            path.write_bytes(content)


def whole_files(folder: Path) -> list[bytes]:
    """A checkpoint as mmengine writes it, in every format."""
    tensors = {"w": torch.arange(6.0).reshape(2, 3), "b": torch.ones(2, dtype=torch.bool)}
    hub = {"log_scalars": {"loss": HistoryBuffer([0.5], [1])}, "runtime_info": ConfigDict(a=[1])}
    content = {"state_dict": tensors, "meta": {"epoch": 1}, "message_hub": hub}
    torch.save(content, folder / "zip")
    torch.save(content, folder / "legacy", _use_new_zipfile_serialization=False)
    save_file(tensors, folder / "safetensors")
    return [(folder / name).read_bytes() for name in ("zip", "legacy", "safetensors")]


def outcome(path: str | Path) -> str:
    """Load a file in a process with limits, use what is in it, and say how it went."""
    reader, writer = os.pipe()
    if process := os.fork():
        os.close(writer)
        with os.fdopen(reader) as pipe:
            said = pipe.read()
        status = os.waitpid(process, 0)[1]
        if os.WIFSIGNALED(status):
            return f"killed by {signal.Signals(os.WTERMSIG(status)).name}"
        return said
    said = "ended"
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[0])
        resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + MEMORY,) * 2)
        signal.alarm(SECONDS)
        said = _load_and_use(path)
    except BaseException as error:
        said = f"{type(error).__name__}: {error}"
    finally:
        os.write(writer, said.encode(errors="replace")[:5000])
        os._exit(0)


def _load_and_use(path: str | Path) -> str:
    try:
        content = load_from_local(path, "cpu")
    except UserError as error:
        return f"refused: {error}"
    pickle.dumps(copy.deepcopy(content))
    repr(content)
    tensors = content.get("state_dict")
    for tensor in tensors.values() if isinstance(tensors, dict) else [tensors]:
        if isinstance(tensor, torch.Tensor):
            tensor.clone().sum()
            tensor.flatten()[tensor.flatten() != 0].sum()
    return "loaded"


def main() -> None:
    """Count how checkpoints of the grammar go, and end with 1 if one does harm."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--keep", type=Path, default=Path("harmful"), help="where such files go")
    options = parser.parse_args()
    counts: Counter[str] = Counter()
    with tempfile.TemporaryDirectory() as folder:
        canary, path = Path(folder, "canary"), Path(folder, "file.pth")
        grammar, whole = Grammar(options.seed, canary), whole_files(Path(folder))
        files = {*os.listdir(folder), path.name}
        for number in range(options.count):
            grammar.write(path, whole)
            said = outcome(path)
            changed = {*os.listdir(folder)} - files
            kind = f"files changed: {changed}" if changed else said
            if said == "loaded" or said.startswith("refused"):
                kind = "damaged" if "damaged" in said[:200] else said.split(":")[0]
            if changed or kind not in ("loaded", "refused", "damaged"):
                options.keep.mkdir(exist_ok=True)
                (options.keep / f"{options.seed}_{number}.pth").write_bytes(path.read_bytes())
            counts[f"files changed: {changed}" if changed else kind] += 1
    for kind, count in counts.most_common():
        print(f"{count:6} {kind}")
    raise SystemExit(bool({*counts} - {"loaded", "refused", "damaged"}))


if __name__ == "__main__":
    main()

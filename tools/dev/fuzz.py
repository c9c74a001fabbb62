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


class Grammar:
    """Random checkpoints."""

    def __init__(self, seed: int, canary: Path) -> None:
        self.chance = random.Random(seed)
        touch = f"touch {canary}"
        self.hostile = {
            "os.system": (touch,), "posix.system": (touch,), "subprocess.getoutput": (touch,),
            "builtins.eval": (f"open({str(canary)!r}, 'w')",), "builtins.open": (str(canary), "w"),
            "torch._tensor._rebuild_from_type_v2": (Call("posix.system"), 0, (touch,), {}),
        }  # fmt: skip

    def leaf(self, depth: int = 0) -> Any:
        numbers = [0, 1, -1, 3, 4, 255, 2**31, 2**62, 10**12, 2**64, 10**30, 0.5, 1e300, -0.0]
        texts = ["", "a", "0", "cpu", "cuda:0", "latin1", "f8", "O8", "U5", "<", "storage", "_meta"]
        return self.chance.choice([*numbers, float("nan"), *texts, None, True, False, "x" * 10**5])

    def value(self, depth: int = 0) -> Any:
        kinds = [
            self.leaf, self.items, self.items, self.dict, self.call, self.call, self.tensor,
            self.array, self.history, self.shared, self.any_opcode,
        ]  # fmt: skip
        return self.chance.choice(kinds if depth < 6 else kinds[:1])(depth + 1)

    def items(self, depth: int) -> Any:
        values = [self.value(depth) for _ in range(self.chance.randrange(5))]
        return self.chance.choice([tuple, list])(values)

    def dict(self, depth: int) -> bytes:
        keys = self.value if self.chance.random() < 0.2 else self.leaf
        pairs = [(keys(depth), self.value(depth)) for _ in range(self.chance.randrange(5))]
        return b"}(" + b"".join(opcodes_of(part) for pair in pairs for part in pair) + b"u"

    def call(self, depth: int) -> Call:
        known = [*data_only_reader._WITH_CONTENT, *data_only_reader._CALLED, *self.hostile]
        known += [*data_only_reader._DTYPES, *self.hostile, "torch.FloatStorage", "numpy.ndarray"]
        name = self.chance.choice([name for name in known if "." in name])
        args, state = self.items(depth), self.chance.choice([None, None, self.value(depth)])
        if name in self.hostile and self.chance.random() < 0.8:
            args = self.hostile[name]
        return Call(name, self.chance.choice([args, tuple(args), None]), state)

    def size(self) -> int:
        return self.chance.choice([0, 1, 2, 2, 4, 4, 5, -1, 2**20, 10**12, 2**62, 2**63])

    def tensor(self, depth: int) -> Call:
        named = named_storage(
            self.chance.choice(["Float", "Bool", "Untyped", "Long", "Q"]),
            self.chance.choice(["0", "1", self.leaf()]), self.chance.choice(["cpu", self.leaf()]),
            self.chance.choice([4, 16, 2, self.size()]),
        )  # fmt: skip
        count = self.chance.randrange(4)
        size, stride = (tuple(self.size() for _ in range(count)) for _ in range(2))
        args = [named, self.size(), size, stride, self.chance.random() < 0.1, None]
        name = self.chance.choice(["", "_v2", "_v3"])
        args = {"": args[:4], "_v2": args, "_v3": [*args, Call("torch.int16")]}[name]
        if self.chance.random() < 0.2:
            args[self.chance.randrange(len(args))] = self.value(depth)
        return Call(f"torch._utils._rebuild_tensor{name}", tuple(args))

    def array(self, depth: int) -> Call:
        kind = self.chance.choice(
            ["f8", "i4", "b1", "U2", "S3", "O8", "M8", "V4", "f16", self.leaf()]
        )
        order = self.chance.choice(["<", ">", "|", "=", self.leaf()])
        dtype = Call("numpy.dtype", (kind, False, True), (3, order, None, None, None, -1, -1, 0))
        text = "\x00" * self.chance.choice([0, 1, 8, 16, 32]) + self.chance.choice(["", "\xff" * 8])
        content = self.chance.choice([Call("_codecs.encode", (text, "latin1")), self.value(depth)])
        shape = tuple(self.size() for _ in range(self.chance.randrange(3)))
        core = self.chance.choice(["core", "_core"])
        if self.chance.random() < 0.3:
            return Call(f"numpy.{core}.multiarray.scalar", (dtype, content))
        empty = (Call("numpy.ndarray"), (0,), "b")
        state = (1, shape, dtype, self.chance.random() < 0.5, content)
        return Call(f"numpy.{core}.multiarray._reconstruct", empty, state)

    def history(self, depth: int) -> Call:
        state = {"_log_history": self.array(depth), "_count_history": self.array(depth)}
        state |= {"max_length": self.size(), "statistics_methods": {"a": Call("posix.system")}}
        return Call("mmengine.logging.history_buffer.HistoryBuffer", (), state)

    def shared(self, depth: int) -> bytes:
        twice = self.chance.choice(
            [b"q\x00h\x00\x86", b"q\x00](h\x00h\x00e", b"\x85", b"]q\x00h\x00a"]
        )
        return opcodes_of(self.value(depth)) + twice * self.chance.choice([1, 8, 70, 10**5])

    def any_opcode(self, depth: int) -> bytes:
        name = self.chance.choice([*OPCODES])
        return (
            opcodes_of(self.value(depth))
            + OPCODES[name]
            + self.chance.randbytes(self.chance.choice([0, 0, 1, 4]))
        )

    def write(self, path: Path, whole: list[bytes]) -> None:
        """Write the next checkpoint: of the grammar, or one of whole files with changed bytes."""
        draw = self.chance.random()
        if draw < 0.25:
            content = bytearray(self.chance.choice(whole))
            for _ in range(self.chance.randint(1, 6)):
                content[self.chance.randrange(len(content))] = self.chance.randrange(256)
            path.write_bytes(content[: self.chance.choice([len(content), len(content) // 2])])
            return
        meta = {"epoch": self.leaf(), "iter": self.leaf(), "more": self.value()}
        members = {"data/0": bytes(16), "data/1": b"\2" * 16, "byteorder": b"little"}
        write_archive(path, {"meta": meta, "state_dict": self.value()}, members)
        if draw < 0.5:  # what the archive says of its members, where no check sum is over it
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

"""Checkpoints: pickles of a grammar that knows every name that the reader knows, and names of code.

They are in archives with what can be wrong in one; others are good files with changed bytes.
"""

import random
import shutil
from collections.abc import Iterator
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

import torch
from dev.fuzz.cases import CANARY, Case
from dev.fuzz.crafted_checkpoints import (
    OPCODES,
    Call,
    load_and_use,
    named_storage,
    opcodes_of,
    write_archive,
)
from mmengine.config import ConfigDict
from mmengine.logging import HistoryBuffer
from safetensors.torch import save_file

from xcit_dense.weights import plain_values

LEAVES = ["", "a", "0", "latin1", 0, 1, -1, 4, 255, 2**31, 0.5, float("nan"), None, True, False]
WILD = [2**62, 2**64, 10**12, 10**30, 1e300, "O8", "x" * 10**5, b"]", b"}", b")", b"h\x00", (), []]
SIZES, WILD_SIZES = [1, 1, 2, 2, 4], [0, 3, 5, -1, 2**20, 10**12, 2**62, 2**63, "a"]
CORE = "numpy._core.multiarray"


def checkpoint_cases(generator: random.Random, count: int) -> Iterator[Case]:
    """Checkpoints of a grammar, and good ones with changed bytes, written one by one and loaded."""
    folder = Path(mkdtemp())
    try:
        whole, grammar = whole_files(folder), Grammar(generator)
        for number in range(count):
            path = folder / f"{number}.pth"
            grammar.write(path, whole)
            yield Case(f"checkpoints {number}", lambda _, path=path: load_and_use(path))
            path.unlink()
    finally:
        shutil.rmtree(folder)


class Grammar:
    """Random checkpoints, in which more or less is as no checkpoint is.

    What code they would run writes the canary of a case.
    """

    def __init__(self, chance: random.Random) -> None:
        self.chance, self.wildness, touch = chance, 0.0, f"touch {CANARY}"
        self.hostile = [
            Call("os.system", (touch,)), Call("posix.system", (touch,)), Call("posix.system"),
            Call("builtins.eval", (f"open({CANARY!r}, 'w')",)),
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
        dicts = ("collections.OrderedDict", "collections.Counter", plain_values._CONFIG_DICT)
        usual = [
            *(Call(name, (self.dict(depth),)) for name in dicts), Call("torch.float16"),
            Call("builtins.set", (["a", 1],)), Call("builtins.complex", (0.5, 1.0)),
            Call("torch.Size", ((1, 2),)), Call("torch.device", ("cpu",)), Call(dicts[0], ()),
            Call("_codecs.encode", ("a", "latin1")), Call("builtins.bytearray", ()),
            Call(dicts[0], (), {"_metadata": self.dict(depth)}),
        ]  # fmt: skip
        return self.choose(usual, self.hostile)

    def any_call(self, depth: int) -> Call:
        known = [*plain_values._WITH_CONTENT, *plain_values._CALLED]
        known += [*plain_values._DTYPES, "torch.FloatStorage", "numpy.ndarray", "os.system"]
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
        write_archive(path, {"meta": meta, "more": self.value()}, members)
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

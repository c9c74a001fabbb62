"""Checkpoints that are written opcode by opcode, for the tests too."""

import copy
import pickle
import pickletools
import zipfile
from pathlib import Path
from typing import Any, NamedTuple

import torch
from dev.fuzz.cases import Case, run_cases

from xcit_dense.weights.safe_loading import load_from_local

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


def outcome(path: str | Path) -> str:
    """Load a file in a process with limits, and say how that went: "fine", "refused: ..." """
    path = Path(path).absolute()
    (ended,) = run_cases(iter([Case(path.name, lambda _: load_and_use(path))]))
    return f"{ended.end}: {ended.told}".strip(": \n")


def load_and_use(path: str | Path) -> None:
    """Load a file, and touch all that is in it."""
    content = load_from_local(path, "cpu")
    pickle.dumps(copy.deepcopy(content))
    repr(content)
    tensors = content.get("more", content.get("state_dict"))
    for tensor in tensors.values() if isinstance(tensors, dict) else [tensors]:
        if isinstance(tensor, torch.Tensor):
            tensor.clone().sum()
            tensor.flatten()[tensor.flatten() != 0].sum()

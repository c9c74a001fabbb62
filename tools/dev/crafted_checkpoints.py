"""Checkpoints that are written opcode by opcode, and loading them in a process with limits.

The tests and ``tools/dev/fuzz.py`` use them.
"""

import copy
import os
import pickle
import pickletools
import resource
import signal
import zipfile
from pathlib import Path
from typing import Any, NamedTuple

import torch

from xcit_dense.errors import UserError
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

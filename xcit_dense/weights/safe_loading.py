"""Loading checkpoints as data: no file can run code, crash the process, hang it or fill its memory.

What is in a file is found here, in the formats of torch and safetensors, and checked: its parts
must be as long as they say, and what was written. Its pickle is taken apart by
:mod:`xcit_dense.weights.pickle_records`, and :mod:`xcit_dense.weights.plain_values` makes the
values. Tensors of a local file are mapped, not copied.
"""

import io
import mmap
import os
import stat
import struct
import sys
import zipfile
import zlib
from collections.abc import Mapping
from typing import Any, BinaryIO

import torch
from safetensors.torch import load as parse_safetensors
from safetensors.torch import load_file as load_safetensors
from torch import Tensor

from xcit_dense.errors import UserError
from xcit_dense.weights.pickle_records import take_apart
from xcit_dense.weights.plain_values import NotPlainError, ValueMaker, size_of_storage

TRUST = "XCIT_DENSE_TRUST_CHECKPOINTS"
_MAX_PICKLE = 200 * 2**20  # with the logs of a million iterations
_MAX_HEADER = 2**24  # the list of a file's parts
_KINDS_OF_PARTS = {"meta": dict, "state_dict": dict, "message_hub": dict}
_LEGACY = (0x1950A86A20F9469CFC6C, 1001)  # as torch began its files before 1.6


class DamagedFileError(UserError):
    """A file is damaged, or no checkpoint at all."""


def load_from_local(filename: str, map_location: Any = None) -> dict:
    """Load a checkpoint of torch, mmengine or safetensors from a file, running none of its code.

    Args:
        filename: path; ``~`` is expanded.
        map_location: as for :func:`torch.load`; tensors of safetensors files go to the CPU unless
            it is a device.

    Raises:
        FileNotFoundError: there is no such file.
        DamagedFileError: the file is damaged, or no checkpoint.
        UserError: it holds more than tensors and plain values, or cannot be read.
    """
    path = os.path.expanduser(filename)
    try:
        if not stat.S_ISREG(os.stat(path).st_mode):
            raise UserError(f"{filename}: cannot be read (a folder, pipe or device, not a file)")
        with open(path, "rb") as file:
            return load_checkpoint_file(file, map_location, str(filename))
    except FileNotFoundError as error:
        raise FileNotFoundError(f"{filename}: no such checkpoint file") from error
    except OSError as error:
        raise UserError(f"{filename}: cannot be read ({error.strerror or error})") from error


def unwrap_checkpoint(checkpoint: Mapping[str, Any]) -> Mapping[str, Tensor]:
    """The state dict in a checkpoint: under ``state_dict``, under ``model``, or the whole of it."""
    for name in ("state_dict", "model"):
        if isinstance(checkpoint.get(name), Mapping):
            return checkpoint[name]
    return checkpoint


def load_checkpoint_file(file: BinaryIO, map_location: Any, name: str) -> dict:
    """Load a checkpoint from an open file, running none of its code.

    A config in Python, which checkpoints older than mmengine have, is left out: on resuming,
    mmengine would run it.

    Args:
        file: open for reading, at its beginning.
        map_location: as for :func:`load_from_local`.
        name: what errors call the file.

    Raises:
        DamagedFileError: the file is damaged, or no checkpoint.
        UserError: it holds more than tensors and plain values.
    """
    if os.environ.get(TRUST) == "1":
        return torch.load(file, map_location=map_location, weights_only=False)
    try:
        content = _load(file, map_location)
        if not isinstance(content, dict):
            raise ValueError(f"it holds a {type(content).__name__}, wanted a dict")
        _check_parts(content)
        _check_progress(content.get("meta"))
    except (MemoryError, torch.OutOfMemoryError, OSError):
        raise
    except NotPlainError as error:
        raise UserError(
            f"{name}: refused, loading it could run code, since it holds more than tensors and "
            f"plain values ({ascii(str(error))[1:-1]}). For a file that you trust see "
            "docs/safety.md"
        ) from error
    except Exception as error:  # a damaged or hostile file can bring about any error
        reason = (str(error).strip().splitlines() or [type(error).__name__])[-1]
        raise DamagedFileError(
            f"{name}: damaged, or no checkpoint ({ascii(reason[:300])[1:-1]})"
        ) from error
    return content


def _check_parts(content: dict) -> None:
    """See that the parts that mmengine reads are of the kinds that it writes."""
    for name, kinds in _KINDS_OF_PARTS.items():
        if not isinstance(content.get(name, kinds()), kinds):
            raise ValueError(f"{name} is a {type(content[name]).__name__}")
    for name in ("state_dict", "model"):
        tensors = content.get(name)
        for key, tensor in tensors.items() if isinstance(tensors, dict) else ():
            if not isinstance(key, str):
                raise ValueError(f"{name} has a key that is no text, {key!r:.40}")
            if not isinstance(tensor, Tensor) and not key.endswith("_extra_state"):
                raise ValueError(f"{name}.{key:.60} is a {type(tensor).__name__}, no tensor")


def _check_progress(meta: Any) -> None:
    """Leave out the config in Python, and see that a run can go on from what is said of it."""
    if isinstance(meta, dict):
        meta.pop("config", None)
        for key, end in (("epoch", 10**8), ("iter", 10**8), ("seed", 2**32)):
            value = meta.get(key)
            if value is not None and not (isinstance(value, int) and 0 <= value < end):
                found = value if isinstance(value, int) else f"a {type(value).__name__}"
                raise ValueError(f"meta.{key} is {found}, wanted 0 to {end - 1}")


def _load(file: BinaryIO, map_location: Any) -> Any:
    size = file.seek(0, io.SEEK_END)
    file.seek(0)
    if not size:  # so that none of the system's files is read that has no end
        raise ValueError("the file is empty")
    first = file.read(9)
    # safetensors: eight bytes with the length of the header, then the header, which is JSON
    if first[8:] == b"{":
        if int.from_bytes(first[:8], "little") > _MAX_HEADER:
            raise ValueError("a header too long")
        device = map_location if isinstance(map_location, (str, torch.device)) else "cpu"
        is_local = isinstance(file, io.BufferedReader)
        tensors = load_safetensors(file.name) if is_local else parse_safetensors(file.read())
        return {key: tensor.to(device) for key, tensor in tensors.items()}
    try:
        content = mmap.mmap(file.fileno(), size, access=mmap.ACCESS_COPY)
    except OSError:  # of a file in memory, or on a disk that cannot be mapped
        file.seek(0)
        content = bytearray(file.read())
    storages = _Storages(content, map_location)
    if first.startswith(b"PK"):
        pickle = storages.find_in_archive(file)
        node, _ = take_apart(io.BytesIO(pickle))
        pickle_size = len(pickle)
    else:
        pickles = io.BytesIO(memoryview(content)[:_MAX_PICKLE])
        if tuple(take_apart(pickles)[0] for _ in _LEGACY) != _LEGACY:
            raise ValueError("no file of torch")
        take_apart(pickles)  # about the machine
        node, named = take_apart(pickles)
        keys, _ = take_apart(pickles)
        pickle_size = pickles.tell()
        storages.find_after(pickle_size, keys, dict(map(size_of_storage, named)))
    maker = ValueMaker(pickle_size, size, storages.find)
    try:
        return maker.make(node)
    except NotPlainError as error:
        place = ".".join(str(key)[:40] for key in maker.place[:8])
        raise NotPlainError(f"{str(error)[:200]} at {place or 'the top'}") from error


class _Storages:
    """The parts of a file, and of these the memory of its tensors."""

    def __init__(self, content: mmap.mmap | bytearray, map_location: Any) -> None:
        self.content = content
        self.place = torch.serialization._get_restore_location(map_location)
        self.parts: dict[str, tuple[int, int]] = {}  # beginning and end by name
        self.placed: dict[str, torch.UntypedStorage] = {}

    def find_in_archive(self, file: BinaryIO) -> bytes:
        """Find the members of a zip archive, check every one, and return the pickle."""
        with zipfile.ZipFile(_SmallReads(file)) as archive:
            if any(name.endswith("/constants.pkl") for name in archive.namelist()):
                raise NotPlainError("a program of TorchScript")
            members = sorted(archive.infolist(), key=lambda member: member.header_offset)
        all_bytes, end = memoryview(self.content), 0
        for member in members:
            name, size, begin = member.filename, member.file_size, member.header_offset
            if not end <= begin < len(all_bytes) - 30:
                raise ValueError(f"{name} in it overlaps with another")
            begin += 30 + sum(struct.unpack("<HH", all_bytes[begin + 26 : begin + 30]))
            end = begin + size
            if member.compress_type or member.compress_size != size or end > len(all_bytes):
                raise ValueError(f"{name} in it is compressed, or not all there")
            if zlib.crc32(all_bytes[begin:end]) != member.CRC:  # torch loads it silently
                raise ValueError(f"{name} in it is not what was written")
            name = name.partition("/")[2]
            if name in self.parts:
                raise ValueError(f"{name} is in it twice")
            self.parts[name] = begin, end
        if self._bytes_of("byteorder", sys.byteorder.encode()) != sys.byteorder.encode():
            raise ValueError("written on a machine of another byte order")
        return self._bytes_of("data.pkl")

    def _bytes_of(self, name: str, default: bytes = b"") -> bytes:
        begin, end = self.parts.get(name, (0, 0))
        if end - begin > _MAX_PICKLE:
            raise ValueError(f"{name} in it is too long")
        return self.content[begin:end] if end else default

    def find_after(self, end: int, keys: list[str], sizes: dict[str, tuple[int, int]]) -> None:
        """Find the storages that follow the pickles of torch before 1.6, each after its length."""
        for key in keys:
            if type(key) is not str:  # others could take forever to be found
                raise ValueError("a storage without a name")
            begin, (count, item_size) = end + 8, sizes[key]
            length, end = self.content[begin - 8 : begin], begin + count * item_size
            if int.from_bytes(length, "little") != count or end > len(self.content):
                raise ValueError(f"storage {key} in it is not all there")
            if f"data/{key}" in self.parts:
                raise ValueError(f"storage {key} is in it twice")
            self.parts[f"data/{key}"] = begin, end

    def find(self, dtype: torch.dtype, key: str, location: str, count: int) -> torch.UntypedStorage:
        """A storage, where ``map_location`` puts it."""
        begin, end = self.parts.get(f"data/{key}", (0, 0)) if count else (0, 0)
        if count * dtype.itemsize != end - begin:
            raise ValueError(
                f"storage {key} in it has {end - begin} bytes, {count} items of {dtype}"
            )
        if key not in self.placed:
            data = torch.empty(0, dtype=torch.uint8)
            if count:
                data = torch.frombuffer(
                    self.content, dtype=data.dtype, count=end - begin, offset=begin
                )
            if begin % 16:  # as it may be in older files
                data = data.clone()
            self.placed[key] = self.place(data.untyped_storage(), location)
        return self.placed[key]


class _SmallReads:
    """A file of which little is read at once: the list of members in an archive is so."""

    def __init__(self, file: BinaryIO) -> None:
        self.seek, self.tell, self._read = file.seek, file.tell, file.read

    def read(self, size: int = -1) -> bytes:
        """As of any file."""
        content = self._read(size if 0 <= size <= _MAX_HEADER else _MAX_HEADER + 1)
        if len(content) > _MAX_HEADER:
            raise ValueError("a list of members too long")
        return content

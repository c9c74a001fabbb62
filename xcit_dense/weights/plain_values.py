"""Making values of pickles that were taken apart, by functions here for every name that is known.

Nothing that a pickle names is looked up, imported or called. How deep and how many the values are,
and how much memory they take, is bounded: a small file cannot fill the memory, nor take long.
"""

import math
import re
from collections import Counter, OrderedDict
from collections.abc import Callable
from functools import cache
from pkgutil import resolve_name
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from xcit_dense.weights.pickle_records import MAX_ITEMS, Record, expect

MAX_DEPTH = 64
MAX_NUMBER_KEYS = 50_000  # of numbers the hashes can be chosen so that each key takes long

_LEAVES = (str, int, float, bool, type(None))

_DTYPES = {
    f"torch.{name}": dtype
    for name, dtype in vars(torch).items()
    if isinstance(dtype, torch.dtype) and not re.match(r"q|bit|u?int[1-7]$", name)
}
_ITEMS = {
    "Double": torch.float64, "Float": torch.float32, "Half": torch.float16, "Long": torch.int64,
    "Int": torch.int32, "Short": torch.int16, "Char": torch.int8, "Byte": torch.uint8,
    "Bool": torch.bool, "BFloat16": torch.bfloat16, "ComplexFloat": torch.complex64,
    "ComplexDouble": torch.complex128, "Untyped": torch.uint8,
}  # fmt: skip
_STORAGES = {
    f"{module}.{name}Storage": dtype
    for name, dtype in _ITEMS.items()
    for module in ("torch", "torch.cuda", "torch.storage")
}
_NUMPY_DTYPE = re.compile(r"b1|[iu][1248]|f(2|4|8|12|16)|c(8|16|24|32)|[SU]\d{1,6}")  # no objects
_DICTS = {"dict": dict, "collections.OrderedDict": OrderedDict, "collections.Counter": Counter}
_CONFIG_DICT = "mmengine.config.config.ConfigDict"
_HISTORY = "mmengine.logging.history_buffer.HistoryBuffer"
_ONE_CYCLE = "mmengine.optim.scheduler.param_scheduler.OneCycleParamScheduler"

_find = cache(resolve_name)  # of names above, never of those in a file


class NotPlainError(Exception):
    """A pickle asks for more than tensors and plain values; the text says for what."""


def _brief(value: Any) -> str:
    return value[:40] if type(value) is str else f"a {type(value).__name__}"


class ValueMaker:
    """Makes plain values, tensors and the few records of mmengine of a pickle taken apart.

    Args:
        pickle_size: bytes; the texts and arrays that are made have at most three times as many.
        file_size: bytes; no tensor is larger, also if its stride is 0.
        find_storage: from a storage's dtype, key, device and number of items to the storage.
    """

    def __init__(self, pickle_size: int, file_size: int, find_storage: Callable) -> None:
        self.left, self.bytes_left = MAX_ITEMS, 3 * pickle_size + 2**20
        self.largest = max(file_size, 2**26)
        self.find_storage = find_storage
        self.made: dict[int, tuple[Any, int, int]] = {}  # value, cost, height by id of what it was
        self.depth = self.deepest = self.number_keys = 0
        self.place: list = []

    def make(self, node: Any) -> Any:
        """The value of a number, a text, a tuple, a list or a record.

        Raises:
            NotPlainError: a record of a name that is not known; ``place`` leads to it.
            ValueError: it is larger or deeper than it may be, or makes no sense.
        """
        if type(node) in _LEAVES:
            return node
        value, cost, height = self.made.get(id(node), (None, 1, 0))
        if self.depth + height > MAX_DEPTH:
            raise ValueError(f"nested in itself, or deeper than {MAX_DEPTH}")
        self._spend(cost)
        if id(node) in self.made:
            self.deepest = max(self.deepest, self.depth + height)
            return value
        self.made[id(node)] = None, 0, MAX_DEPTH + 1  # who meets it before it is made: a circle
        left, deepest, self.deepest = self.left, self.deepest, self.depth
        self.depth += 1
        value = self._make_record(node) if type(node) is Record else self._make_items(node)
        self.depth -= 1
        self.made[id(node)] = value, left - self.left + 1, self.deepest - self.depth
        self.deepest = max(self.deepest, deepest)
        return value

    def _spend(self, items: int, size: int = 0) -> None:
        self.left -= items
        self.bytes_left -= size
        if min(self.left, self.bytes_left) < 0:
            raise ValueError("more in it than a checkpoint has, or than it has bytes for")

    def _make_items(self, node: tuple | list) -> tuple | list:
        self._spend(len(node))
        items = []
        for index, item in enumerate(node):
            self.place.append(index)
            items.append(self.make(item))
            self.place.pop()
        return tuple(items) if type(node) is tuple else items

    def _make_record(self, node: Record) -> Any:
        if node.args is None:
            if node.name in _DTYPES:
                return _DTYPES[node.name]
            if node.name in _STORAGES or node.name in ("numpy.ndarray", _ONE_CYCLE):
                return node.name  # says only of what others are
            raise NotPlainError(node.name)
        self._spend(len(node.args))
        if node.name in _WITH_CONTENT:
            return _WITH_CONTENT[node.name](self, node)
        if node.name not in _CALLED or node.pairs or node.state is not None:
            raise NotPlainError(node.name)
        return _CALLED[node.name](self, *map(self.make, node.args))

    def _dict(self, node: Record) -> dict:
        """A dict, an OrderedDict, Counter or ConfigDict, from its items or those of another."""
        made = _DICTS[node.name]() if node.name in _DICTS else _find(_CONFIG_DICT)()
        pairs = []
        for content in (*node.args, node):  # a list is how Python 2 wrote it
            more = content if type(content) is list else expect(Record, content).pairs
            self._spend(len(more))
            pairs += more
        for key_node, item in pairs:
            key = self._key(self.make(key_node))
            self.place.append(key)
            made[key] = self.make(item)
            self.place.pop()
        if type(made) is Counter and not all(type(count) is int for count in made.values()):
            raise ValueError("a count that is no number")
        if type(made) is OrderedDict and node.state is not None:  # torch puts it on state dicts
            made._metadata = self.make(node.state).get("_metadata", {})
            if not all(type(m.get("version", 1)) is int for m in made._metadata.values()):
                raise ValueError("a version of a module that is no number")
        return made

    def _key(self, key: Any) -> Any:
        if type(key) is not str:
            self.number_keys += 1
            is_short = type(key) is not int or abs(key) < 2**63
            if type(key) not in _LEAVES or not is_short or self.number_keys > MAX_NUMBER_KEYS:
                raise ValueError(
                    f"a key that is no text or number ({type(key).__name__}), or too many"
                )
        return key

    def _set(self, items: tuple | list = ()) -> set:
        self._spend(len(items))
        return {self._key(item) for item in items}

    def _bytes(self, content: str | bytes = b"", encoding: str = "latin1") -> bytes:
        self._spend(0, len(content))
        if type(content) is bytes:
            return content
        if encoding not in ("latin1", "latin-1"):
            raise NotPlainError(f"the codec {_brief(encoding)}")
        return content.encode("latin-1")

    def _method(self, owner: str, name: str) -> Callable:
        """A method that a schedule keeps; it is called when the schedule is."""
        if owner != _ONE_CYCLE or name not in ("_annealing_cos", "_annealing_linear"):
            raise NotPlainError(f"getattr of {_brief(name)}")
        return getattr(_find(_ONE_CYCLE), name)

    def _history(self, node: Record) -> Any:
        """The log of one value. Functions over it, which are saved with it, are left out."""
        self._spend(len(node.state.pairs))
        names = ("_log_history", "_count_history", "max_length")
        found = {name: self.make(value) for name, value in node.state.pairs if name in names}
        *arrays, max_length = (found[name] for name in names)
        if {(type(a), a.ndim, a.dtype.kind in "iuf") for a in arrays} != {(np.ndarray, 1, True)}:
            raise ValueError("a history that is no array of numbers")
        if type(max_length) is not int or max_length < 1:
            raise ValueError("a history of at most no values")
        self._spend(0, sum(array.nbytes for array in arrays))
        return _find(_HISTORY)(*arrays, max_length)

    def _dtype(self, node: Record) -> np.dtype:
        name = node.args[0]
        if type(name) is not str or not _NUMPY_DTYPE.fullmatch(name):
            raise NotPlainError(f"numpy.dtype of {_brief(name)}")
        order = "=" if node.state is None else self.make(node.state)[1]
        return np.dtype(name).newbyteorder(order)

    def _array(self, node: Record) -> np.ndarray:
        _, shape, dtype, is_fortran, content = self.make(node.state)
        return self._array_of(dtype, content, shape, "F" if is_fortran else "C")

    def _array_of(
        self, dtype: np.dtype, content: bytes, shape: tuple = (), order: str = "C"
    ) -> np.ndarray:
        if not isinstance(dtype, np.dtype) or type(content) is not bytes:
            raise NotPlainError("a numpy array of objects")
        count = math.prod(self._sizes(shape))
        self._spend(0, max(count, len(content)))
        if count * dtype.itemsize != len(content):
            raise ValueError(f"an array of shape {shape} in {len(content)} bytes")
        if dtype.kind == "b" and content.translate(None, b"\0\1"):
            raise ValueError("an array of bool with other values in it")
        array = np.ndarray(shape, dtype, content, order=order)
        return array.astype(dtype.newbyteorder("="), order="K")

    def _sizes(self, sizes: tuple | list) -> tuple[int, ...]:
        if len(sizes) > 32 or any(type(size) is not int for size in sizes):
            raise ValueError("sizes that are no numbers, or too many")
        if not all(0 <= size <= self.largest for size in sizes):
            raise ValueError("a size below 0, or larger than the file")
        return tuple(sizes)

    def _storage(
        self, kind: str, items: str, key: str, location: str, count: int, view: None = None
    ) -> tuple[torch.UntypedStorage, torch.dtype]:
        if {type(text) for text in (kind, items, key, location)} != {str}:
            raise ValueError("a storage without a name")
        if kind != "storage" or items not in _STORAGES or view is not None or len(key) > 99:
            raise ValueError("no storage of tensors")
        dtype, (count,) = _STORAGES[items], self._sizes([count])
        return self.find_storage(dtype, key, location, count), dtype

    def _tensor(
        self, storage: tuple, offset: int, size: tuple, stride: tuple,
        requires_grad: bool = False, hooks: Any = None, metadata: Any = None, dtype: Any = None,
    ) -> Tensor:  # fmt: skip
        untyped, dtype = storage[0], dtype or storage[1]
        if type(untyped) is not torch.UntypedStorage or metadata:
            raise ValueError("a tensor without a storage, or a conjugated one")
        size, stride, _ = self._sizes(size), self._sizes(stride), self._sizes([offset])
        end = offset + 1 + sum((n - 1) * step for n, step in zip(size, stride, strict=True))
        end = offset if 0 in size else end
        # with 1 for 0: torch multiplies sizes before it finds the 0
        if math.prod(n or 1 for n in size) * dtype.itemsize > self.largest:
            raise ValueError(f"a tensor of shape {size}, larger than the file")
        if end * dtype.itemsize > untyped.nbytes():
            raise ValueError(f"a tensor of shape {size} outside of its storage")
        tensor = torch.empty(0, dtype=dtype, device=untyped.device)
        return tensor.set_(untyped, offset, size, stride).requires_grad_(requires_grad)

    def _tensor_of(self, *args: Any) -> Tensor:
        *of_any, dtype = args[:7]
        return self._tensor(*of_any, any(args[7:]), dtype)


def size_of_storage(named: Record) -> tuple[str, tuple[int, int]]:
    """Key, and number and bytes of the items, of a storage that a pickle names."""
    _, items, key, _, count, *_ = named.args
    if type(key) is not str or type(count) is not int or count < 0:
        raise ValueError("no storage of tensors")
    return key, (count, _STORAGES[expect(Record, items).name].itemsize)


# what stands for a name: functions of its record, which may have items and a state,
_WITH_CONTENT = {
    **dict.fromkeys((*_DICTS, _CONFIG_DICT), ValueMaker._dict),
    _HISTORY: ValueMaker._history,
    "numpy.dtype": ValueMaker._dtype,
    "numpy.core.multiarray._reconstruct": ValueMaker._array,
    "numpy._core.multiarray._reconstruct": ValueMaker._array,
}
# and functions of its arguments
_CALLED = {
    "storage": ValueMaker._storage,
    "torch._utils._rebuild_tensor": ValueMaker._tensor,
    "torch._utils._rebuild_tensor_v2": ValueMaker._tensor,
    "torch._utils._rebuild_tensor_v3": ValueMaker._tensor_of,
    "torch._utils._rebuild_parameter": lambda _, tensor, grad, *__: nn.Parameter(tensor, grad),
    "torch.Size": lambda maker, sizes=(): torch.Size(maker._sizes(sizes)),
    "torch.device": lambda _, *args: torch.device(*args),
    "numpy.core.multiarray.scalar": lambda maker, *args: maker._array_of(*args)[()],
    "numpy._core.multiarray.scalar": lambda maker, *args: maker._array_of(*args)[()],
    "builtins.getattr": ValueMaker._method,
    "builtins.complex": lambda _, *args: complex(*(expect(float, part) for part in args)),
    "builtins.set": ValueMaker._set,
    "builtins.bytes": ValueMaker._bytes,
    "builtins.bytearray": lambda maker, *args: bytearray(maker._bytes(*args)),
    "_codecs.encode": ValueMaker._bytes,
}

"""Taking pickles apart, without looking up, calling, comparing or hashing anything in them."""

from _compat_pickle import IMPORT_MAPPING
from pickletools import genops
from typing import Any, BinaryIO

MAX_ITEMS = 1_000_000  # a large detector with the state of its optimizer has 200,000

_LITERALS = ("BININT", "BININT1", "BININT2", "LONG1", "BINFLOAT", "BINUNICODE")
_SINGLETONS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False}


class Record:
    """What a pickle names, or would call: a name, arguments, items that are set, a state."""

    __slots__ = ("args", "name", "pairs", "state")

    def __init__(self, name: str, args: tuple | None = None) -> None:
        self.name, self.args, self.pairs, self.state = name, args, [], None


def take_apart(pickle: BinaryIO) -> tuple[Any, list[Record]]:
    """Take the next pickle of a file apart.

    Returns:
        What it holds: numbers, texts, tuples, lists and records; and those of its records that
        name a storage of tensors.

    Raises:
        ValueError: it has opcodes that torch does not write, more than any checkpoint has, or they
            make no sense.
    """
    stack, marks, memo, storages = [], [], {}, []

    def since_mark() -> list:
        start = marks.pop()
        items = stack[start:]
        del stack[start:]
        return items

    for number, (opcode, value, _) in enumerate(genops(pickle)):
        name = opcode.name
        if number > MAX_ITEMS:
            raise ValueError(f"more than {MAX_ITEMS} values")
        if name in ("BINPUT", "LONG_BINPUT"):
            if value > len(memo) + 1:  # Python 2 begins with 1
                raise ValueError("a memo with gaps")
            memo[value] = stack[-1]
        elif name in ("BINGET", "LONG_BINGET"):
            stack.append(memo[value])
        elif name in _LITERALS:
            stack.append(value)
        elif name in _SINGLETONS:
            stack.append(_SINGLETONS[name])
        elif name == "SHORT_BINSTRING":  # a text of Python 2
            stack.append(value.encode("latin-1").decode())
        elif name == "MARK":
            marks.append(len(stack))
        elif name == "TUPLE":
            stack.append(tuple(since_mark()))
        elif name in ("EMPTY_TUPLE", "TUPLE1", "TUPLE2", "TUPLE3"):
            start = len(stack) - ("EMPTY_TUPLE", "TUPLE1", "TUPLE2", "TUPLE3").index(name)
            stack[start:] = [tuple(stack[start:])]
        elif name == "EMPTY_LIST":
            stack.append([])
        elif name == "APPEND":
            item = stack.pop()
            expect(list, stack[-1]).append(item)
        elif name == "APPENDS":
            items = since_mark()
            expect(list, stack[-1]).extend(items)
        elif name == "EMPTY_DICT":
            stack.append(Record("dict", ()))
        elif name in ("SETITEM", "SETITEMS"):
            if name == "SETITEM":
                marks.append(len(stack) - 2)
            items = since_mark()
            expect(Record, stack[-1]).pairs += zip(items[::2], items[1::2], strict=True)
        elif name == "GLOBAL":
            module, _, attribute = value.partition(" ")
            stack.append(Record(f"{IMPORT_MAPPING.get(module, module)}.{attribute}"))
        elif name in ("REDUCE", "NEWOBJ"):
            args = expect(tuple, stack.pop())
            stack[-1] = Record(expect(Record, stack[-1]).name, args)
        elif name == "BUILD":
            state = stack.pop()
            expect(Record, stack[-1]).state = state
        elif name == "BINPERSID":
            stack[-1] = Record("storage", expect(tuple, stack[-1]))
            storages.append(stack[-1])
        elif name == "STOP":
            return stack.pop(), storages
        elif name != "PROTO":
            raise ValueError(f"the opcode {name}, which torch does not write")
    raise ValueError("no end")


def expect(kind: type, value: Any) -> Any:
    """A value that must be of a kind, and of no other that is derived from it."""
    if type(value) is not kind:
        raise ValueError(f"a {type(value).__name__} where a {kind.__name__} should be")
    return value

"""numpy's arrays and scalars load as they were; none reaches numpy's own unpickling."""

import copy
import pickle

import numpy as np
import pytest
import torch

from xcit_dense.errors import UserError
from xcit_dense.weights.checkpoint_error import UnsafeCheckpointError
from xcit_dense.weights.safe_loading import load_local_checkpoint

NUMBERS = "?bhilBHILefdgFDG"


def round_trip(value, tmp_path):
    torch.save({"value": value}, tmp_path / "checkpoint.pth")
    return load_local_checkpoint(str(tmp_path / "checkpoint.pth"))["value"]


@pytest.mark.parametrize("code", NUMBERS)
def test_scalars(code, tmp_path):
    scalar = np.ones(1, code)[0]
    loaded = round_trip(scalar, tmp_path)
    assert loaded == scalar
    assert type(loaded) is type(scalar)


@pytest.mark.parametrize("code", NUMBERS)
def test_arrays_of_every_layout(code, tmp_path):
    array = np.arange(6).reshape(2, 3).astype(code)
    swapped = array.astype(array.dtype.newbyteorder())
    for wanted in (array, np.asfortranarray(array), array[:, ::2], array[:0], array[0, 0], swapped):
        loaded = round_trip(wanted, tmp_path)
        assert np.array_equal(loaded, wanted)
        assert loaded.dtype == wanted.dtype.newbyteorder("=")
        assert loaded.shape == wanted.shape


@pytest.mark.parametrize("text", [np.str_("ab"), np.str_(""), np.bytes_(b"ab")])
def test_text(text, tmp_path):
    assert round_trip(text, tmp_path) == text
    assert round_trip(np.array([text, text]), tmp_path).tolist() == [text, text]


def test_a_loaded_array_is_pickled_and_copied_as_a_plain_one(tmp_path):
    array = np.arange(6.0).reshape(2, 3)
    loaded = round_trip(array, tmp_path)
    for protocol in range(2, 6):
        again = pickle.loads(pickle.dumps(loaded, protocol))
        assert type(again) is np.ndarray
        assert np.array_equal(again, array)
    assert pickle.dumps(loaded) == pickle.dumps(array)  # mmengine compares metainfo so
    assert np.array_equal(copy.deepcopy(loaded), array)
    assert np.array_equal(round_trip(loaded, tmp_path), array)


class Calls:
    """Unpickled without protection, calls a function and sets the state of what it returns."""

    def __init__(self, function, *arguments, state=None):
        self.function, self.arguments, self.state = function, arguments, state

    def __reduce__(self):
        return self.function, self.arguments, self.state


RECONSTRUCT = np.zeros(1).__reduce__()[0]
SCALAR = np.float64(0).__reduce__()[0]
ADDRESS = bytes(8)
NO_FLAGS = (3, "|", None, None, None, -1, -1, 0)
FORGED_DTYPE = Calls(np.dtype, "O8", False, True, state=NO_FLAGS)

# with numpy's own unpickling the first three make numpy follow an address of the file's choice
FORGED = {
    "objects over bytes": Calls(np.ndarray, (1,), "O", ADDRESS),
    "objects that say they are none": Calls(
        RECONSTRUCT, np.ndarray, (0,), b"b", state=(1, (1,), FORGED_DTYPE, False, ADDRESS)
    ),
    "a record of objects": Calls(SCALAR, np.dtype([("a", "O")]), ADDRESS),
    "too few bytes": Calls(
        RECONSTRUCT, np.ndarray, (0,), b"b", state=(1, (1000,), np.dtype("f8"), False, ADDRESS)
    ),
    "more items than a size can count": Calls(
        RECONSTRUCT, np.ndarray, (0,), b"b",
        state=(1, (2**32, 2**32), np.dtype("f8"), False, b""),
    ),
    "a scalar of too few bytes": Calls(SCALAR, np.dtype("f8"), b"1"),
    "a date": np.datetime64("2020-01-01"),
    "an array of objects": np.array([None]),
}  # fmt: skip


@pytest.mark.parametrize("kind", FORGED)
def test_what_is_no_plain_array_is_refused(kind, tmp_path):
    with pytest.raises(UserError, match=r"checkpoint\.pth: (refused|damaged)"):
        round_trip(FORGED[kind], tmp_path)


def test_the_refused_dtype_is_named(tmp_path):
    with pytest.raises(UnsafeCheckpointError, match=r"asks for numpy\.dtype\('O8'\), which is nev"):
        round_trip(np.array([None]), tmp_path)

"""The arch table and its errors."""

import pytest

from xcit_dense.network import ARCHS, resolve_arch

SMALL = {"embed_dims": 64, "depth": 6, "num_heads": 4, "eta": 1.0}


def test_the_published_sizes():
    table = {
        name: (a.embed_dims, a.depth, a.num_heads, a.eta, a.out_indices)
        for name, a in ARCHS.items()
    }
    shallow, deep = (3, 5, 7, 11), (7, 11, 15, 23)
    assert table == {
        "nano_12": (128, 12, 4, 1.0, shallow),
        "tiny_12": (192, 12, 4, 1.0, shallow),
        "tiny_24": (192, 24, 4, 1e-5, deep),
        "small_12": (384, 12, 8, 1.0, shallow),
        "small_24": (384, 24, 8, 1e-5, deep),
        "medium_24": (512, 24, 8, 1e-5, deep),
        "large_24": (768, 24, 16, 1e-5, deep),
    }


def test_default_taps_exist_for_every_depth():
    for depth in range(4, 30):
        taps = resolve_arch({**SMALL, "depth": depth}).out_indices
        assert len(set(taps)) == 4
        assert taps[-1] == depth - 1


def test_given_taps_replace_those_of_the_arch():
    assert resolve_arch("small_12", [2, 4, 6, 8]).out_indices == (2, 4, 6, 8)
    assert resolve_arch({**SMALL, "out_indices": (0, 1, 2, 3)}).out_indices == (0, 1, 2, 3)
    assert ARCHS["small_12"].out_indices == (3, 5, 7, 11)


@pytest.mark.parametrize(
    ("arch", "out_indices", "message"),
    [
        ("small_13", None, "'small_13' is unknown; known: nano_12, tiny_12"),
        ({**SMALL, "embed_dims": 66}, None, "embed_dims=66 is not divisible by num_heads=4"),
        ({**SMALL, "depth": 3}, None, "depth=3: at least 4 blocks"),
        ({**SMALL, "dim": 3}, None, r"unknown keys \['dim'\]"),
        ({"embed_dims": 64}, None, r"missing keys \['depth', 'num_heads', 'eta'\]"),
        ("small_12", (3, 5, 7), "needs exactly 4"),
        ("small_12", (3, 5, 7, 12), "out of range, the 12 blocks are counted 0 to 11"),
        ("small_12", (-1, 5, 7, 11), "out of range"),
        ("small_12", (5, 3, 7, 11), "must increase"),
        ("small_12", (3, 3, 7, 11), "must increase"),
    ],
)
def test_errors_name_the_value_and_the_remedy(arch, out_indices, message):
    with pytest.raises(ValueError, match=message):
        resolve_arch(arch, out_indices)


def test_an_arch_of_another_type_is_an_error():
    with pytest.raises(TypeError, match="name or a dict, got int"):
        resolve_arch(12)

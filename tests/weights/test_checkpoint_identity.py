"""A checkpoint is recognised by its tensors, and another network's is refused by name."""

import re

import pytest
import torch

from xcit_dense.network import ARCHS, Trunk, resolve_arch
from xcit_dense.weights import CheckpointIdentity, CheckpointMismatchError, fit_tensors, identify

CUSTOM = {"embed_dims": 32, "depth": 6, "num_heads": 4, "eta": 1.0}


def tensors_of(arch, patch_size, in_channels=3):
    with torch.device("meta"):
        trunk = Trunk(resolve_arch(arch), patch_size, in_channels)
    return {f"trunk.{name}": tensor for name, tensor in trunk.state_dict().items()}


def identity(arch, patch_size=16, in_channels=3):
    return CheckpointIdentity.of(resolve_arch(arch), patch_size, in_channels)


@pytest.mark.parametrize("patch_size", [8, 16])
@pytest.mark.parametrize("arch", [*ARCHS, CUSTOM], ids=str)
def test_every_architecture_is_recognised(arch, patch_size):
    assert identify(tensors_of(arch, patch_size, 5)) == identity(arch, patch_size, 5)


def test_names():
    assert str(identity("small_12", 8)) == "small_12/8"
    assert str(identity(CUSTOM)) == "XCiT(embed_dims=32, depth=6, num_heads=4)/16"


@pytest.mark.parametrize("missing", ["trunk.patch_embedding.0.0.weight", "trunk.blocks.0."])
def test_a_part_of_a_network_has_no_identity(missing):
    tensors = tensors_of("nano_12", 16)
    assert identify({k: t for k, t in tensors.items() if not k.startswith(missing)}) is None
    assert identify({"layer1.weight": torch.zeros(1)}) is None


@pytest.mark.parametrize(
    ("given", "wanted", "message"),
    [
        (
            identity("small_12", 8),
            identity("small_12", 16),
            "this is small_12/8; the config builds small_12/16 (patch_size 8, not 16). Take "
            "weights of small_12/16, or set arch='small_12', patch_size=8 in the backbone",
        ),
        (
            identity("small_24"),
            identity("small_12"),
            "this is small_24/16; the config builds small_12/16 (depth 24, not 12)",
        ),
        (identity("small_12"), identity("small_24"), "(depth 12, not 24)"),
        (
            identity("tiny_12", 8),
            identity("medium_24"),
            "(embed_dims 192, not 512, num_heads 4, not 8, patch_size 8, not 16, depth 12, not 24)",
        ),
        (
            identity(CUSTOM),
            identity({**CUSTOM, "num_heads": 8}),
            "this is XCiT(embed_dims=32, depth=6, num_heads=4)/16; the config builds "
            "XCiT(embed_dims=32, depth=6, num_heads=8)/16 (num_heads 4, not 8)",
        ),
    ],
    ids=lambda value: str(value)[:40],
)
def test_another_network_is_an_error(given, wanted, message):
    with pytest.raises(CheckpointMismatchError, match=re.escape(message)):
        given.check_fits(wanted, num_blocks=wanted.depth)


@pytest.mark.parametrize("depth_of_file", [8, 10, 12])
def test_a_backbone_that_ends_early_takes_deeper_files(depth_of_file):
    """Its own, those of a backbone that ends later, and whole ones."""
    tensors = {
        name: tensor
        for name, tensor in tensors_of("nano_12", 16).items()
        if not (match := re.match(r"trunk\.blocks\.(\d+)", name)) or int(match[1]) < depth_of_file
    }
    fitted = fit_tensors(tensors, identity("nano_12"), num_blocks=8)
    per_block = sum(name.startswith("trunk.blocks.0.") for name in tensors)
    left_out = fitted.left_out["blocks behind the last tap"]
    assert left_out == (depth_of_file - 8) * per_block
    assert len(fitted.state_dict) == len(tensors) - left_out


@pytest.mark.parametrize("depth_of_file", [7, 13])
def test_other_depths_are_refused(depth_of_file):
    file = identity({**CUSTOM, "depth": depth_of_file})
    with pytest.raises(CheckpointMismatchError, match=f"depth {depth_of_file}, not 12"):
        file.check_fits(identity({**CUSTOM, "depth": 12}), num_blocks=8)


def test_our_own_tensors_pass_untouched():
    tensors = tensors_of("nano_12", 16)
    fitted = fit_tensors(tensors, identity("nano_12"), num_blocks=12)
    assert fitted.state_dict == tensors
    assert fitted.notes() == []

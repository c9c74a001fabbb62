"""A checkpoint is recognised by its tensors, fitted to a backbone, and compared with a model."""

import re

import pytest
import torch
import torch.nn.functional as F

from xcit_dense.errors import UserError
from xcit_dense.network import Trunk, resolve_arch
from xcit_dense.weights import CheckpointIdentity, compare, fit_tensors, identify
from xcit_dense.weights.checkpoint_fit import adapt_image_channels

CUSTOM = {"embed_dims": 32, "depth": 6, "num_heads": 4, "eta": 1.0}


def tensors_of(arch, patch_size, in_channels=3):
    with torch.device("meta"):
        trunk = Trunk(resolve_arch(arch), patch_size, in_channels)
    return {f"trunk.{name}": tensor for name, tensor in trunk.state_dict().items()}


def identity(arch, patch_size=16, in_channels=3):
    return CheckpointIdentity.of(resolve_arch(arch), patch_size, in_channels)


class TestIdentity:
    @pytest.mark.parametrize(("arch", "patch_size"), [("tiny_24", 8), (CUSTOM, 16)], ids=str)
    def test_a_whole_trunk_is_recognised(self, arch, patch_size):
        assert identify(tensors_of(arch, patch_size, 5)) == identity(arch, patch_size, 5)

    @pytest.mark.parametrize("missing", ["trunk.patch_embedding.0.0.weight", "trunk.blocks.0."])
    def test_a_part_of_a_network_has_no_identity(self, missing):
        tensors = tensors_of(CUSTOM, 16)
        assert identify({k: t for k, t in tensors.items() if not k.startswith(missing)}) is None

    @pytest.mark.parametrize(
        ("given", "wanted"),
        [
            (identity("small_12", 8), identity("small_12", 16)),
            (identity("small_24"), identity("small_12")),
            (identity(CUSTOM), identity({**CUSTOM, "num_heads": 8})),
        ],
        ids=str,
    )
    def test_another_network_is_an_error_that_names_both(self, given, wanted):
        assert str(given) != str(wanted)
        with pytest.raises(UserError, match=f"{re.escape(str(given))}.*{re.escape(str(wanted))}"):
            given.check_fits(wanted, num_blocks=wanted.depth)


class TestFit:
    @pytest.mark.parametrize("depth_of_file", [4, 5, 6, 7])
    def test_a_backbone_that_ends_early_takes_deeper_files(self, depth_of_file):
        """Its own, those of a backbone that ends later, and whole ones; but no deeper network."""
        tensors = tensors_of({**CUSTOM, "depth": depth_of_file}, 16)
        per_block = sum(name.startswith("trunk.blocks.0.") for name in tensors)
        if not 5 <= depth_of_file <= 6:
            with pytest.raises(UserError, match=f"depth={depth_of_file}"):
                fit_tensors(tensors, identity(CUSTOM), num_blocks=5)
            return
        fitted = fit_tensors(tensors, identity(CUSTOM), num_blocks=5)
        left_out = (depth_of_file - 5) * per_block
        assert len(fitted.state_dict) == len(tensors) - left_out
        told = f"left out on purpose: {left_out} of blocks behind the last tap"
        assert fitted.notes == ([told] if left_out else [])

    def test_our_own_tensors_pass_untouched(self):
        tensors = tensors_of(CUSTOM, 16)
        assert fit_tensors(tensors, identity(CUSTOM), num_blocks=6) == (tensors, [])


class TestImageChannels:
    @pytest.mark.parametrize(("given", "wanted"), [(3, 1), (3, 2), (3, 13), (4, 3), (1, 6)])
    def test_equal_channels_give_the_same_response(self, given, wanted):
        weight, gray = torch.randn(8, given, 3, 3), torch.randn(1, 1, 9, 9)
        expected = F.conv2d(gray.expand(-1, given, -1, -1), weight)
        response = F.conv2d(gray.expand(-1, wanted, -1, -1), adapt_image_channels(weight, wanted))
        torch.testing.assert_close(response, expected, rtol=1e-4, atol=1e-5)

    def test_channels_are_dealt_out_in_turn(self):
        weight = torch.tensor([1.0, 10.0, 100.0]).half().view(1, 3, 1, 1)
        four, two = adapt_image_channels(weight, 4), adapt_image_channels(weight, 2)
        assert four.flatten().tolist() == [0.5, 10, 100, 0.5]
        assert two.flatten().tolist() == [101, 10]
        assert four.dtype == two.dtype == torch.half


def tensors(*names, shape=(2,)):
    return {name: torch.zeros(shape) for name in names}


class TestReport:
    def test_a_complete_checkpoint(self):
        model = tensors("backbone.a", "backbone.b", "neck.num_batches_tracked")
        for file in (dict(model), tensors("backbone.a", "backbone.b")):
            report = compare(model, file)
            assert report.is_complete
            assert report.num_loaded == len(file)

    def test_every_difference_is_named(self):
        model = tensors("backbone.a", "backbone.b", "neck.x.a", "neck.x.b", "head.cls")
        file = tensors("backbone.a", "old.y") | tensors("head.cls", shape=(5, 1))
        report = compare(model, file)
        assert not report.is_complete
        assert report.num_loaded == 1
        loaded, reshaped, missing, unexpected = str(report).splitlines()
        assert "1 of 5 tensors loaded (backbone 1/2, neck 0/2, head 0/1)" in loaded
        assert "head.cls (5, 1), in the model (2,)" in reshaped
        assert "backbone.b, neck.x.a, neck.x.b" in missing
        assert "old.y" in unexpected

    def test_long_lists_are_cut(self):
        model = tensors(*(f"a{number}" for number in range(30)))
        last = str(compare(model, {})).splitlines()[-1]
        assert "a0, a1" in last
        assert "a29" not in last
        assert "more" in last

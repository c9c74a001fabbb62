"""The models of timm: what timm's users expect of ``features_only``."""

import pytest
import timm
import torch

from xcit_dense.backbone import Backbone
from xcit_dense.errors import UserError
from xcit_dense.weights import rename_state_dict

NAME = "xcit_dense_nano_12_p16"


def create(**options):
    return timm.create_model(NAME, features_only=True, **options).eval()


def test_timm_lists_all_of_them():
    assert len(timm.list_models("xcit_dense_*")) == 14
    assert timm.is_model_pretrained("xcit_dense_small_12_p8.in1k_dino")
    assert timm.get_pretrained_cfg(NAME).url.endswith("/xcit_nano_12_p16_384_dist.pth")


@pytest.mark.parametrize(
    ("options", "levels"),
    [
        ({}, [0, 1, 2, 3]),
        ({"out_indices": (0, 2)}, [0, 2]),
        ({"out_indices": (-1,)}, [3]),
        ({"out_indices": 2}, [2, 3]),
        ({"output_stride": 16}, [0, 1, 2, None]),
    ],
)
@torch.no_grad()
def test_levels_are_those_of_the_whole_pyramid(options, levels):
    whole, some = Backbone("nano_12").eval(), create(**options)
    some.load_state_dict(whole.state_dict(), strict=False)
    image = torch.randn(1, 3, 100, 130)
    maps = some(image)
    assert isinstance(maps, list)
    wanted = whole(image)
    for index, level, channels, stride in zip(
        levels, maps, some.feature_info.channels(), some.feature_info.reduction(), strict=True
    ):
        assert level.shape == (1, channels, -(-100 // stride), -(-130 // stride))
        assert index is None or torch.equal(level, wanted[index])
    modules = dict(some.named_modules())
    assert all(name in modules for name in some.feature_info.module_name())


def test_every_way_of_timm_to_name_weights(tmp_path, monkeypatch):
    wanted = Backbone("nano_12").trunk
    trunk = wanted.state_dict(prefix="trunk.")
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    file = tmp_path / "hub/checkpoints/xcit_nano_12_p16_384_dist.pth"
    file.parent.mkdir(parents=True)
    torch.save({"model": rename_state_dict(trunk, "official")}, file)
    for options in (
        {"pretrained": True},
        {"pretrained": True, "pretrained_cfg_overlay": {"file": str(file)}},
        {"checkpoint_path": str(file)},
    ):
        model = create(**options)
        assert all(torch.equal(trunk["trunk." + k], t) for k, t in model.trunk.state_dict().items())
    assert model.pretrained_cfg["input_size"] == (3, 384, 384)
    assert create(pretrained=True, in_chans=1)(torch.rand(1, 1, 32, 32))[3].shape == (1, 128, 1, 1)
    del trunk["trunk.blocks.0.ffn.fc1.weight"]
    torch.save(trunk, file)
    with pytest.raises(RuntimeError, match=r"Missing.*blocks\.0\.ffn\.fc1\.weight"):
        create(checkpoint_path=str(file))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"features_only": False}, "has no classifier.*features_only=True"),
        ({"out_indices": (0, 4)}, r"\(0, 4\): must be some of the levels \(0, 1, 2, 3\), in order"),
        ({"out_indices": (2, 1)}, "in order"),
        ({"cache_dir": "here"}, "TORCH_HOME"),
        ({"pretrained": True, "pretrained_cfg": {"hf_hub_id": "a/b"}}, "names no weights"),
    ],
)
def test_errors(options, message):
    with pytest.raises(UserError, match=message):
        timm.create_model(NAME, **{"features_only": True, **options})

"""The backbone as a plain module: equal to the registered one, and filled from files."""

import logging

import pytest
import torch
from mmengine.registry import MODELS

import xcit_dense
from xcit_dense.engine import pays
from xcit_dense.errors import UserError
from xcit_dense.weights import rename_state_dict

SMALL = {"embed_dims": 32, "depth": 6, "num_heads": 4, "eta": 1.0}


@pytest.mark.parametrize(
    "options",
    [{}, {"patch_size": 8, "in_channels": 5}, {"out_strides": (8, 8), "out_indices": (2, 4)},
     {"with_cp": True, "attention": "direct", "contiguous_outputs": True}], ids=str,
)  # fmt: skip
def test_it_equals_the_registered_one_bit_by_bit(options):
    torch.manual_seed(0)
    wanted = MODELS.build({"type": "XCiT", "arch": SMALL, **options})
    torch.manual_seed(0)
    backbone = xcit_dense.create_backbone(SMALL, **options)
    assert (backbone.out_channels, backbone.strides) == (wanted.out_channels, wanted.strides)
    image = torch.randn(2, options.get("in_channels", 3), 170, 230)
    for with_gradients in (True, False):
        both = (model.train(with_gradients) for model in (wanted, backbone))
        with torch.set_grad_enabled(with_gradients):
            for level, equal, stride in zip(
                *(m(image) for m in both), backbone.strides, strict=True
            ):
                assert level.shape == (2, 32, -(-170 // stride), -(-230 // stride))
                assert torch.equal(level, equal)
                assert level.is_contiguous() == equal.is_contiguous()
                if with_gradients:
                    equal.square().mean().backward(retain_graph=True)
    assert pays(170 * 230 // 16**2, 32)  # so the engine has run
    assert not [n for n, p in backbone.named_parameters() if p.grad is None or not p.grad.any()]
    tensors = wanted.state_dict()
    assert list(tensors) == list(backbone.state_dict())
    assert all(torch.equal(tensors[name], t) for name, t in backbone.state_dict().items())


@pytest.fixture
def trained(tmp_path):
    """A backbone, and a folder with its trunk by the names of the release."""
    backbone = xcit_dense.create_backbone(SMALL)
    for tensor in backbone.state_dict().values():
        tensor += 0.1 if tensor.is_floating_point() else 3
    trunk = rename_state_dict(backbone.trunk.state_dict(prefix="trunk."), "official")
    torch.save({"model": {**trunk, "cls_token": torch.ones(1)}}, tmp_path / "release.pth")
    return backbone, tmp_path


def assert_equal(module, wanted):
    for name, tensor in wanted.state_dict().items():
        assert torch.equal(module.state_dict()[name], tensor), name


def test_weights_of_a_file(trained, caplog):
    wanted, folder = trained
    caplog.set_level(logging.INFO)
    backbone = xcit_dense.create_backbone(SMALL, weights=folder / "release.pth")
    assert_equal(backbone.trunk, wanted.trunk)
    assert "pyramid 0/10" in caplog.text and "1 of class attention" in caplog.text
    assert {record.levelname for record in caplog.records} == {"INFO"}

    detector = {f"backbone.{name}": tensor for name, tensor in wanted.state_dict().items()}
    torch.save({"state_dict": {**detector, "head.weight": torch.ones(1)}}, folder / "detector.pth")
    assert_equal(xcit_dense.create_backbone(SMALL, weights=f"{folder}/detector.pth"), wanted)

    part = {name: tensor for name, tensor in wanted.state_dict().items() if ".ffn." not in name}
    torch.save(part, folder / "part.pth")
    xcit_dense.create_backbone(SMALL, weights=f"{folder}/part.pth")
    assert caplog.records[-1].levelname == "WARNING" and "not in the checkpoint" in caplog.text


def test_weights_for_other_channels_answer_gray_images_as_before(trained):
    wanted, folder = trained
    backbone = xcit_dense.create_backbone(SMALL, weights=folder / "release.pth", in_channels=4)
    gray = torch.randn(1, 1, 64, 96)
    level, equal = (m.trunk.eval()(gray.expand(-1, m.trunk.in_channels, -1, -1))[-1]
                    for m in (wanted, backbone))  # fmt: skip
    assert (level - equal).abs().max() <= 1e-4 * level.abs().max()


def test_weights_by_their_kind(tmp_path, monkeypatch):
    wanted = xcit_dense.create_backbone("nano_12")
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    cache = tmp_path / "hub/checkpoints"
    cache.mkdir(parents=True)
    torch.save(wanted.state_dict(), cache / "xcit_nano_12_p16_384_dist.pth")
    assert_equal(xcit_dense.create_backbone("nano_12", weights="in1k_384_dist"), wanted)
    with pytest.raises(UserError, match=r"'in1k_384': .*there are .*384_dist, each after 'in1k_'"):
        xcit_dense.create_backbone("nano_12", weights="in1k_384")


def test_weights_that_cannot_be_used(trained):
    _, folder = trained
    with pytest.raises(UserError, match=r"release\.pth: .*another network.*/16; the backbone.*/8"):
        xcit_dense.create_backbone(SMALL, patch_size=8, weights=folder / "release.pth")
    with pytest.raises(FileNotFoundError, match=r"nowhere\.pth: no such checkpoint file"):
        xcit_dense.create_backbone(SMALL, weights="nowhere.pth")
    torch.save({"model": {"x": torch.ones(1)}}, folder / "other.pth")
    with pytest.raises(UserError, match=r"other\.pth: does not fit the backbone.*'x'"):
        xcit_dense.create_backbone(SMALL, weights=folder / "other.pth")
    torch.save(folder, folder / "code.pth")
    with pytest.raises(UserError, match=r"code\.pth: refused, loading it could run code"):
        xcit_dense.create_backbone(SMALL, weights=folder / "code.pth")


def test_a_state_dict_may_have_published_names(trained):
    wanted, folder = trained
    backbone = xcit_dense.create_backbone(SMALL)
    release = torch.load(folder / "release.pth")["model"]
    missing, unexpected = backbone.load_state_dict(release, strict=False)
    assert all(name.startswith("pyramid.") for name in missing) and not unexpected
    assert_equal(backbone.trunk, wanted.trunk)


def test_whole_models_that_were_saved_before_find_what_they_name():
    from xcit_dense.mm.backbone import _fit_state_dict  # noqa: F401

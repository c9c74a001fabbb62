"""The registered backbone keeps its public promises."""

import mmengine.registry
import pytest
import torch
from mmengine.runner import save_checkpoint
from torch import nn
from torch.nn.modules.batchnorm import _NormBase

import xcit_dense
from xcit_dense.errors import UserError

SMALL = {"embed_dims": 32, "depth": 6, "num_heads": 4, "eta": 1.0}  # taps after blocks 1, 2, 3, 5


def build(**kwargs):
    config = {"type": "XCiT", "arch": SMALL, **kwargs}
    return mmengine.registry.MODELS.build(config)


def pretrained(path):
    return build(init_cfg={"type": "Pretrained", "checkpoint": str(path)})


def test_the_registries_of_mmdet_and_mmseg_know_it():
    from mmdet.registry import MODELS as MMDET_MODELS
    from mmseg.registry import MODELS as MMSEG_MODELS

    for registry in (mmengine.registry.MODELS, MMDET_MODELS, MMSEG_MODELS):
        model = registry.build({"type": "XCiT", "arch": "nano_12", "patch_size": 16})
        assert isinstance(model, xcit_dense.XCiT)
        assert model.out_channels == (128,) * 4
        assert model.strides == (4, 8, 16, 32)


@pytest.mark.parametrize("patch_size", [8, 16])
@pytest.mark.parametrize("size", [(1, 1), (17, 31), (224, 224), (800, 1333)])
@torch.no_grad()
def test_any_image_size_gives_a_pyramid(patch_size, size):
    model = build(patch_size=patch_size).eval()
    levels = model(torch.randn(1, 3, *size))
    for level, stride, channels in zip(levels, model.strides, model.out_channels, strict=True):
        assert level.shape == (1, channels, -(-size[0] // stride), -(-size[1] // stride))
        assert level.isfinite().all()


@pytest.mark.parametrize("patch_size", [8, 16])
@pytest.mark.parametrize("size", [(64, 96), (50, 70)])
def test_every_parameter_receives_a_gradient(patch_size, size):
    model = build(patch_size=patch_size)
    sum(level.square().mean() for level in model(torch.randn(2, 3, *size))).backward()
    without = [n for n, p in model.named_parameters() if p.grad is None or not p.grad.any()]
    assert not without


@pytest.mark.parametrize("arch", [SMALL, "nano_12"])
@torch.no_grad()
def test_outputs_do_not_depend_on_the_rest_of_the_batch(arch):
    model = build(arch=arch).eval()
    image, other = torch.randn(2, 1, 3, 64, 96)
    alone = model(image)
    together = model(torch.cat([other * 100, image]))
    for one, both in zip(alone, together, strict=True):
        torch.testing.assert_close(both[1:], one, rtol=1e-4, atol=1e-5)


def test_checkpointed_equals_plain():
    image = torch.randn(2, 3, 64, 96)
    runs = []
    for with_cp in (False, True):
        torch.manual_seed(1)
        model = build(with_cp=with_cp, drop_path_rate=0.2)
        levels = model(image)
        sum(level.square().mean() for level in levels).backward()
        runs.append([*levels, *(p.grad for p in model.parameters()), *model.buffers()])
    assert all(torch.equal(plain, again) for plain, again in zip(*runs, strict=True))


def test_checkpointing_keeps_less_for_backward():
    def bytes_kept(with_cp):
        kept = {}
        model = build(with_cp=with_cp)

        def note(tensor):
            storage = tensor.untyped_storage()
            kept[storage.data_ptr()] = storage.nbytes()
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
            model.trunk(torch.randn(2, 3, 256, 256))
        return sum(kept.values())

    assert bytes_kept(True) < 0.5 * bytes_kept(False)


def test_an_unknown_attention_is_an_error():
    with pytest.raises(ValueError, match="attention='fast': must be one of auto, gram, direct"):
        build(attention="fast")


@pytest.mark.parametrize("in_channels", [1, 4, 13])
def test_any_number_of_image_channels(in_channels):
    model = build(in_channels=in_channels)
    assert model(torch.randn(2, in_channels, 64, 64))[0].shape == (2, 32, 16, 16)


def test_state_dict_round_trip():
    first, second = build(), build()
    first(torch.randn(2, 3, 64, 64))  # moves the running statistics
    second.load_state_dict(first.state_dict())
    image = torch.randn(1, 3, 50, 70)
    for a, b in zip(first.eval()(image), second.eval()(image), strict=True):
        assert torch.equal(a, b)


@pytest.mark.parametrize(
    ("norm_cfg", "norm_type"),
    [
        ({"type": "BN"}, nn.BatchNorm2d),
        ({"type": "SyncBN"}, nn.SyncBatchNorm),
        ({"type": "GN", "num_groups": 2}, nn.GroupNorm),
    ],
)
def test_norm_cfg_reaches_every_norm_of_a_map(norm_cfg, norm_type):
    model = build(norm_cfg=norm_cfg)
    norms = [m for m in model.modules() if isinstance(m, _NormBase | nn.GroupNorm)]
    assert len(norms) == 4 + 6 + 1  # stem, one a block, pyramid
    assert all(isinstance(norm, norm_type) for norm in norms)


def test_norm_cfg_can_freeze_the_norms():
    model = build(norm_cfg={"type": "BN", "requires_grad": False})
    weights = [m.weight for m in model.modules() if isinstance(m, nn.BatchNorm2d)]
    assert not any(weight.requires_grad for weight in weights)


@pytest.mark.parametrize(("stages", "blocks"), [(-1, 0), (0, 0), (1, 2), (2, 3), (3, 4), (4, 6)])
def test_frozen_stages(stages, blocks):
    model = build(frozen_stages=stages)
    model.train()
    frozen = [model.trunk.patch_embedding, model.trunk.position_encoding] if stages >= 0 else []
    frozen += list(model.trunk.blocks[:blocks])
    frozen_parameters = {p for module in frozen for p in module.parameters()}
    for parameter in model.parameters():
        assert parameter.requires_grad != (parameter in frozen_parameters)
    frozen_modules = {m for module in frozen for m in module.modules()}
    for module in model.trunk.modules():
        if isinstance(module, nn.BatchNorm2d):
            assert module.training != (module in frozen_modules)

    before = {name: buffer.clone() for name, buffer in model.named_buffers()}
    sum(level.square().mean() for level in model(torch.randn(2, 3, 64, 64))).backward()
    statistics = {b for module in frozen for b in module.buffers()}
    for name, buffer in model.named_buffers():
        if "running" in name:
            assert torch.equal(buffer, before[name]) == (buffer in statistics), name
    for parameter in model.parameters():
        assert (parameter.grad is not None) == parameter.requires_grad


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"arch": "huge"}, "'huge' is unknown; known: nano_12, tiny_12, tiny_24, small_12"),
        ({"patch_size": 4}, r"patch_size=4: must be one of \(8, 16\)"),
        ({"arch": {**SMALL, "num_heads": 5}}, "32 is not divisible by num_heads=5"),
        ({"arch": {**SMALL, "embed_dims": 36}}, "36 is not divisible by 8: the stem"),
        ({"out_indices": (1, 2, 3)}, "needs exactly 4"),
        ({"frozen_stages": 5}, "frozen_stages=5: must be -1"),
        ({"drop_path_rate": 1.5}, r"drop_path_rate=1.5: must be in \[0, 1\)"),
    ],
)
def test_errors_name_the_value_and_the_remedy(kwargs, message):
    with pytest.raises(ValueError, match=message):
        xcit_dense.XCiT(**{"arch": SMALL, **kwargs})


@pytest.mark.parametrize("shape", [(1, 4, 32, 32), (3, 32, 32)])
def test_an_image_of_other_channels_is_an_error(shape):
    with pytest.raises(ValueError, match=r"expected \(B, 3, H, W\).*in_channels="):
        build()(torch.randn(*shape))


class TestPretrained:
    """``init_cfg=dict(type='Pretrained', checkpoint=...)``."""

    def published(self, model):
        """Our tensors under the names of the paper's release."""
        renames = [
            ("trunk.", ""),
            ("patch_embedding.", "patch_embed.proj."),
            ("position_encoding.projection", "pos_embeder.token_projection"),
            ("attention_norm", "norm1"),
            ("ffn_norm", "norm2"),
            ("interaction_norm", "norm3"),
            ("attention_layer_scale", "gamma1"),
            ("ffn_layer_scale", "gamma2"),
            ("interaction_layer_scale", "gamma3"),
            ("interaction.norm", "local_mp.bn"),
            ("interaction", "local_mp"),
            ("attention.projection", "attn.proj"),
            ("attention", "attn"),
            ("ffn", "mlp"),
            ("pyramid.levels.0", "fpn1"),
            ("pyramid.levels.1", "fpn2"),
        ]
        state_dict = {}
        for key, tensor in model.state_dict().items():
            for ours, theirs in renames:
                key = key.replace(ours, theirs)
            state_dict[key] = tensor
        return state_dict

    @pytest.mark.parametrize("wrap", ["bare", "model", "dense"])
    def test_published_files_load_as_they_are(self, tmp_path, wrap):
        source = build()
        tensors = {**self.published(source), "cls_token": torch.zeros(1, 1, 32)}
        checkpoint = {
            "bare": tensors,
            "model": {"model": tensors},
            "dense": {
                "state_dict": {
                    **{f"backbone.{k}": v for k, v in tensors.items()},
                    "neck.weight": torch.zeros(1),
                },
                "meta": {},
            },
        }[wrap]
        torch.save(checkpoint, tmp_path / "published.pth")
        model = build(
            init_cfg={"type": "Pretrained", "checkpoint": str(tmp_path / "published.pth")}
        )
        model.init_weights()
        for key, tensor in source.state_dict().items():
            assert torch.equal(model.state_dict()[key], tensor), key

    def test_our_own_checkpoints_load(self, tmp_path):
        source = build()
        wanted = source.trunk.blocks[2].ffn.fc1.weight
        save_checkpoint({"state_dict": source.state_dict()}, str(tmp_path / "ours.pth"))
        model = pretrained(tmp_path / "ours.pth")
        model.init_weights()
        assert torch.equal(model.trunk.blocks[2].ffn.fc1.weight, wanted)

    def test_a_whole_detector_loads_published_names(self):
        source, detector = build(), nn.ModuleDict({"backbone": build(), "neck": nn.Linear(1, 1)})
        published = {f"backbone.{k}": v for k, v in self.published(source).items()}
        published |= {f"neck.{k}": v for k, v in detector["neck"].state_dict().items()}
        detector.load_state_dict(published)
        for key, tensor in source.state_dict().items():
            assert torch.equal(detector["backbone"].state_dict()[key], tensor), key

    def test_a_file_of_something_else_is_an_error(self, tmp_path):
        torch.save({"layer1.weight": torch.zeros(1)}, tmp_path / "resnet.pth")
        model = pretrained(tmp_path / "resnet.pth")
        with pytest.raises(UserError, match=r"resnet.pth: no tensor of .*layer1.weight"):
            model.init_weights()

    def test_a_file_of_another_width_is_an_error(self, tmp_path):
        other = build(arch={**SMALL, "embed_dims": 64})
        torch.save(self.published(other), tmp_path / "other.pth")
        model = pretrained(tmp_path / "other.pth")
        with pytest.raises(UserError, match=r"other.pth: .* \(embed_dims 64, not 32\)"):
            model.init_weights()

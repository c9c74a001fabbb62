"""Published checkpoints of whole detectors and segmentors fill the models of our configs."""

import re
from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmengine.registry import MODELS, init_default_scope

CONFIGS = Path(__file__).parents[3] / "configs"
C = 128  # width of the nano backbone
BN = ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")


# The heads of mmdet 2.11 and mmseg 0.11, written out from their sources; name: shape of the weight.
def conv(name, *shape, bias=True):
    return {f"{name}.weight": shape, **({f"{name}.bias": shape[:1]} if bias else {})}


def conv_and_norm(name, *shape):
    norm = {f"{name}.bn.{tensor}": shape[:1] for tensor in BN[:-1]}
    return conv(f"{name}.conv", *shape, bias=False) | norm | {f"{name}.bn.{BN[-1]}": ()}


def fpn(width):
    lateral = [conv(f"neck.lateral_convs.{i}.conv", width, C, 1, 1) for i in range(4)]
    return merged(
        lateral + [conv(f"neck.fpn_convs.{i}.conv", width, width, 3, 3) for i in range(4)]
    )


def merged(parts):
    return {name: shape for part in parts for name, shape in part.items()}


def mask_rcnn():
    box, mask = "roi_head.bbox_head", "roi_head.mask_head"
    upsample = {f"{mask}.upsample.weight": (256, 256, 2, 2), f"{mask}.upsample.bias": (256,)}
    return merged(
        [
            fpn(256),
            conv("rpn_head.rpn_conv", 256, 256, 3, 3),
            conv("rpn_head.rpn_cls", 3, 256, 1, 1),
            conv("rpn_head.rpn_reg", 12, 256, 1, 1),
            conv(f"{box}.fc_cls", 81, 1024),
            conv(f"{box}.fc_reg", 320, 1024),
            conv(f"{box}.shared_fcs.0", 1024, 256 * 49),
            conv(f"{box}.shared_fcs.1", 1024, 1024),
            *(conv(f"{mask}.convs.{i}.conv", 256, 256, 3, 3) for i in range(4)),
            upsample,
            conv(f"{mask}.conv_logits", 80, 256, 1, 1),
        ]
    )


def semantic_fpn():
    head = "decode_head.scale_heads"
    places = ["0.0", "1.0", "2.0", "2.2", "3.0", "3.2", "3.4"]  # between them: upsampling
    inputs = [C, C, C, 128, C, 128, 128]
    scales = zip(places, inputs, strict=True)
    return merged(
        [
            fpn(C),
            conv("decode_head.conv_seg", 150, 128, 1, 1),
            *(conv_and_norm(f"{head}.{place}", 128, width, 3, 3) for place, width in scales),
        ]
    )


def upernet():
    head = "decode_head"
    return merged(
        [
            conv(f"{head}.conv_seg", 150, 512, 1, 1),
            *(conv_and_norm(f"{head}.psp_modules.{i}.1", 512, C, 1, 1) for i in range(4)),
            conv_and_norm(f"{head}.bottleneck", 512, C + 4 * 512, 3, 3),
            *(conv_and_norm(f"{head}.lateral_convs.{i}", 512, C, 1, 1) for i in range(3)),
            *(conv_and_norm(f"{head}.fpn_convs.{i}", 512, 512, 3, 3) for i in range(3)),
            conv_and_norm(f"{head}.fpn_bottleneck", 512, 4 * 512, 3, 3),
            conv("auxiliary_head.conv_seg", 150, 256, 1, 1),
            conv_and_norm("auxiliary_head.convs.0", 256, C, 3, 3),
        ]
    )


def pyramid():
    grow = {"weight": (C, C, 2, 2), "bias": (C,)}
    norm = {f"fpn1.1.{tensor}": (C,) for tensor in BN[:-1]}
    ups = {f"{up}.{name}": s for up in ("fpn1.0", "fpn1.3", "fpn2.0") for name, s in grow.items()}
    return ups | norm | {"fpn1.1.num_batches_tracked": ()}


HEADS = {
    "xcit_maskrcnn_coco.py": mask_rcnn,
    "semfpn/xcit_small_12_p16_semfpn_ade20k.py": semantic_fpn,
    "xcit_upernet_ade20k.py": upernet,
}


def random_tensor(name, shape):
    if name.endswith("num_batches_tracked"):
        return torch.tensor(7)
    return torch.rand(shape) if "running_var" in name else torch.randn(shape) * 0.02


def nano_config(name, num_classes=None):
    cfg = Config.fromfile(CONFIGS / name)
    cfg.model.backbone.arch = "nano_12"
    if "neck" in cfg.model:
        cfg.model.neck.in_channels = [C] * 4
        if "decode_head" in cfg.model:
            cfg.model.neck.out_channels = C
    for head in ("decode_head", "auxiliary_head"):
        if head in cfg.model:
            cfg.model[head].in_channels = C if head == "auxiliary_head" else [C] * 4
    if num_classes:
        cfg.model.roi_head.bbox_head.num_classes = num_classes
        cfg.model.roi_head.mask_head.num_classes = num_classes
    init_default_scope(cfg.default_scope)
    cfg.load_hooks = [hook for hook in cfg.custom_hooks if hook.type == "LoadReportHook"]
    return cfg


@pytest.fixture
def published(timm_nano, official, tmp_path):
    """Write a file as mmdet 2.11 or mmseg 0.11 did; give its path and its tensors."""

    def write(name):
        backbone = official(timm_nano.state_dict())
        backbone = {k: t for k, t in backbone.items() if not re.match("cls|norm|head", k)}
        shapes = pyramid()
        backbone |= {k: random_tensor(k, shape) for k, shape in shapes.items()}
        heads = {k: random_tensor(k, shape) for k, shape in HEADS[name]().items()}
        tensors = {f"backbone.{k}": tensor for k, tensor in backbone.items()} | heads
        meta = {"epoch": 36, "iter": 1, "CLASSES": ("person", "bicycle")}
        checkpoint = {"meta": meta, "state_dict": tensors, "optimizer": {"state": {}}}
        torch.save(checkpoint, tmp_path / "dense.pth")
        return tmp_path / "dense.pth", tensors

    return write


OUR_NAMES = [  # by hand, not by the code that is tested
    ("patch_embed.proj", "trunk.patch_embedding"),
    ("pos_embeder.token_projection", "trunk.position_encoding.projection"),
    (r"blocks\.(\d+)\.norm1", r"trunk.blocks.\1.attention_norm"),
    (r"blocks\.(\d+)\.norm2", r"trunk.blocks.\1.ffn_norm"),
    (r"blocks\.(\d+)\.norm3", r"trunk.blocks.\1.interaction_norm"),
    (r"blocks\.(\d+)\.attn\.proj", r"trunk.blocks.\1.attention.projection"),
    (r"blocks\.(\d+)\.attn\.", r"trunk.blocks.\1.attention."),
    (r"blocks\.(\d+)\.local_mp\.bn", r"trunk.blocks.\1.interaction.norm"),
    (r"blocks\.(\d+)\.local_mp\.", r"trunk.blocks.\1.interaction."),
    (r"blocks\.(\d+)\.mlp", r"trunk.blocks.\1.ffn"),
    (r"blocks\.(\d+)\.gamma1", r"trunk.blocks.\1.attention_layer_scale"),
    (r"blocks\.(\d+)\.gamma2", r"trunk.blocks.\1.ffn_layer_scale"),
    (r"blocks\.(\d+)\.gamma3", r"trunk.blocks.\1.interaction_layer_scale"),
    ("fpn1", "pyramid.levels.0"),
    ("fpn2", "pyramid.levels.1"),
]


def by_hand(model, tensors):
    """Copy every tensor into its place."""
    places = dict(model.named_parameters()) | dict(model.named_buffers())
    for name, tensor in tensors.items():
        if name.startswith("backbone."):
            for theirs, ours in OUR_NAMES:
                name, changed = re.subn(rf"^backbone\.{theirs}", f"backbone.{ours}", name)
                if changed:
                    break
        places[name].data.copy_(tensor)
    return model


def outputs(model):
    """What the heads say about an image."""
    with torch.no_grad():
        maps = model.eval().extract_feat(torch.linspace(-2, 2, 3 * 64 * 96).view(1, 3, 64, 96))
        if hasattr(model, "decode_head"):
            return [model.decode_head(maps)]
        regions = torch.tensor([[0.0, 4, 4, 60, 50], [0.0, 10, 0, 90, 60]])
        boxes = model.roi_head._bbox_forward(maps, regions)
        masks = model.roi_head._mask_forward(maps, regions)
        proposals = [level for kind in model.rpn_head(maps) for level in kind]
        return [*proposals, boxes["cls_score"], boxes["bbox_pred"], masks["mask_preds"]]


@pytest.mark.parametrize("name", HEADS)
def test_load_from_fills_the_whole_model(name, published, load_from, log):
    path, tensors = published(name)
    cfg = nano_config(name)
    expected = by_hand(MODELS.build(cfg.model), tensors)
    model = load_from(MODELS.build(cfg.model), path, cfg.load_hooks)
    number = len(model.state_dict())
    assert len(log) == 1
    assert re.fullmatch(rf"{number} of {number} tensors loaded \(backbone [^\n]*\)", log[0])
    for output, want in zip(outputs(model), outputs(expected), strict=True):
        torch.testing.assert_close(output, want, rtol=1e-4, atol=1e-5)
        assert output.std() > 0


@pytest.mark.parametrize("name", HEADS)
def test_init_cfg_takes_the_backbone_of_it(name, published, log):
    path, tensors = published(name)
    cfg = nano_config(name)
    cfg.model.backbone.init_cfg = {"type": "Pretrained", "checkpoint": str(path)}
    model = MODELS.build(cfg.model)
    model.backbone.init_weights()
    heads = sum(not k.startswith("backbone.") for k in tensors)
    first, *others = log[0].splitlines()
    assert re.search(r"(\d+) of \1 tensors loaded", first)
    assert others == [f"  left out on purpose: {heads} of the rest of the model"]
    expected = by_hand(MODELS.build(cfg.model), tensors).backbone
    for key, tensor in expected.state_dict().items():
        assert torch.equal(model.backbone.state_dict()[key], tensor), key


def test_heads_for_other_classes_are_named(published, load_from, log):
    path, _ = published("xcit_maskrcnn_coco.py")
    cfg = nano_config("xcit_maskrcnn_coco.py", num_classes=5)
    model = load_from(MODELS.build(cfg.model), path, cfg.load_hooks)
    first, second = log[0].splitlines()
    number = len(model.state_dict())
    assert first.startswith(f"{number - 6} of {number} tensors loaded (backbone ")
    head = "roi_head.bbox_head"
    assert second.startswith(
        f"  of another shape, not loaded: {head}.fc_cls.weight (81, 1024), in the model (6, 1024)"
    )


def test_imagenet_weights_for_a_whole_detector(timm_nano, official, tmp_path, load_from, log):
    torch.save({"model": official(timm_nano.state_dict())}, tmp_path / "imagenet.pth")
    cfg = nano_config("xcit_maskrcnn_coco.py")
    load_from(MODELS.build(cfg.model), tmp_path / "imagenet.pth", cfg.load_hooks)
    first, *others = log[0].splitlines()
    assert "(backbone 350/360, neck 0/16, rpn_head 0/6, roi_head 0/20)" in first
    assert others == [
        "  not in the checkpoint: backbone.pyramid.* (10), neck.* (16), rpn_head.* (6), "
        "roi_head.* (20)",
        "  backbone.* left out on purpose: 31 of class attention, 2 of classifier",
    ]

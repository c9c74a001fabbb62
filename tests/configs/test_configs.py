"""Every shipped config builds its model, learns a step, and says what its name says."""

from pathlib import Path

import pytest
import torch
from mmengine import hub
from mmengine.config import Config
from mmengine.optim import build_optim_wrapper
from mmengine.registry import MODELS, init_default_scope
from mmengine.structures import PixelData
from torch import nn

import xcit_dense.mm.mmengine_patches  # noqa: F401

CONFIGS = Path(__file__).parents[2] / "configs"
FLAGSHIPS = [CONFIGS / "xcit_maskrcnn_coco.py", CONFIGS / "xcit_upernet_ade20k.py"]
VARIANTS = sorted(
    path for head in ("maskrcnn", "semfpn", "upernet") for path in CONFIGS.glob(f"{head}/xcit_*.py")
)
ALL = sorted(path for path in CONFIGS.rglob("*.py") if "_base_" not in path.parts)
ONE_A_HEAD = [*FLAGSHIPS, CONFIGS / "semfpn/xcit_small_12_p16_semfpn_ade20k.py"]
TINY = {"embed_dims": 16, "depth": 4, "num_heads": 2, "eta": 1.0}

WIDTHS = {"tiny_12": 192, "small_12": 384, "small_24": 384, "medium_24": 512}


def name_of(path):
    return str(path.relative_to(CONFIGS))


def build_model(cfg):
    init_default_scope(cfg.default_scope)
    return MODELS.build(cfg.model)


def detection_batch(num_classes):
    from mmdet.testing import demo_mm_inputs

    return demo_mm_inputs(
        2, [[3, 64, 96], [3, 80, 64]], num_classes=num_classes, num_items=[2, 3], with_mask=True
    )


def segmentation_batch(num_classes):
    from mmseg.structures import SegDataSample

    samples = []
    for _ in range(2):
        labels = torch.randint(0, num_classes, (1, 64, 96))
        labels[:, :5] = 255
        meta = {"img_shape": (64, 96), "ori_shape": (64, 96)}
        samples.append(SegDataSample(metainfo=meta, gt_sem_seg=PixelData(data=labels)))
    return {"inputs": list(torch.randint(0, 256, (2, 3, 64, 96)).byte()), "data_samples": samples}


def expected_losses(cfg):
    if cfg.default_scope == "mmdet":
        return {"loss_rpn_cls", "loss_rpn_bbox", "loss_cls", "loss_bbox", "loss_mask"}
    return {"decode.loss_ce"} | ({"aux.loss_ce"} if "auxiliary_head" in cfg.model else set())


@pytest.mark.parametrize("path", ALL, ids=name_of)
def test_the_model_builds(path):
    cfg = Config.fromfile(path)
    # DINO's head reads numbers from its own tensors while it is built
    with torch.device("cpu" if path.parent.name == "dino" else "meta"):
        model = build_model(cfg)
    assert type(model.backbone).__name__ == "XCiT"
    assert sum(parameter.numel() for parameter in model.backbone.parameters()) > 0


@pytest.mark.parametrize("path", ONE_A_HEAD, ids=name_of)
def test_every_part_of_a_head_learns(path):
    cfg = Config.fromfile(path)
    cfg.model.backbone.arch = TINY
    if cfg.default_scope == "mmdet":
        cfg.model.neck.in_channels = [16] * 4
        batch = detection_batch(cfg.model.roi_head.bbox_head.num_classes)
    else:
        reader = "neck" if cfg.model.get("neck") else "decode_head"
        cfg.model[reader].in_channels = [16] * 4
        if "auxiliary_head" in cfg.model:
            cfg.model.auxiliary_head.in_channels = 16
        cfg.model.data_preprocessor.size = (64, 96)
        batch = segmentation_batch(cfg.model.decode_head.num_classes)
    model = build_model(cfg).train()
    losses = model(**model.data_preprocessor(batch, training=True), mode="loss")
    assert expected_losses(cfg) <= set(losses)
    total, _ = model.parse_losses(losses)
    assert total.isfinite()
    total.backward()
    without = [n for n, p in model.named_parameters() if p.requires_grad and p.grad is None]
    assert not without  # an unused parameter would stall distributed training


@pytest.mark.parametrize("path", VARIANTS, ids=name_of)
def test_a_variant_is_what_its_name_says(path):
    cfg = Config.fromfile(path)
    _, size, depth, patch_size, head, _ = path.stem.split("_")
    arch = f"{size}_{depth}"
    assert cfg.model.backbone.arch == arch
    assert cfg.model.backbone.patch_size == int(patch_size[1:])
    consumer = cfg.model.decode_head if head == "upernet" else cfg.model.neck
    assert consumer.in_channels == [WIDTHS[arch]] * 4
    published_drop_path = {"tiny_12": 0.0, "small_12": 0.05, "small_24": 0.1, "medium_24": 0.15}
    if (arch, head) == ("medium_24", "semfpn"):
        published_drop_path["medium_24"] = 0.2
    assert cfg.model.backbone.drop_path_rate == published_drop_path[arch]


def test_the_detection_recipe_is_the_published_one():
    cfg = Config.fromfile(FLAGSHIPS[0])
    assert cfg.optim_wrapper.optimizer == {
        "type": "AdamW", "lr": 1e-4, "betas": (0.9, 0.999), "weight_decay": 0.05
    }  # fmt: skip
    assert cfg.train_cfg.max_epochs == 36
    assert cfg.param_scheduler[-1].milestones == [27, 33]
    assert cfg.auto_scale_lr.base_batch_size == 8 * cfg.train_dataloader.batch_size == 16
    assert cfg.short_sides == [(side, 1333) for side in range(480, 801, 32)]


@pytest.mark.parametrize(
    ("path", "iterations"),
    [(FLAGSHIPS[1], 160_000), (CONFIGS / "semfpn/xcit_small_12_p16_semfpn_ade20k.py", 80_000)],
)
def test_the_segmentation_recipes_are_the_published_ones(path, iterations):
    cfg = Config.fromfile(path)
    optimizer = cfg.optim_wrapper.optimizer
    assert (optimizer.type, optimizer.lr, optimizer.weight_decay) == ("AdamW", 6e-5, 0.01)
    warm_up, poly = cfg.param_scheduler
    assert (warm_up.begin, warm_up.end, warm_up.start_factor) == (0, 1500, 1e-6)
    assert (poly.type, poly.begin, poly.end, poly.power) == ("PolyLR", 1500, iterations, 1.0)
    assert cfg.train_cfg.max_iters == iterations
    assert cfg.auto_scale_lr.base_batch_size == 16


@pytest.mark.parametrize("path", FLAGSHIPS, ids=name_of)
def test_weight_decay_spares_norms_temperatures_and_layer_scales(path):
    cfg = Config.fromfile(path)
    with torch.device("meta"):
        model = build_model(cfg)
    optimizer = build_optim_wrapper(model, cfg.optim_wrapper).optimizer
    decay = {id(p): g["weight_decay"] for g in optimizer.param_groups for p in g["params"]}

    norms = nn.modules.batchnorm._NormBase | nn.LayerNorm | nn.GroupNorm
    spared = {id(p) for m in model.modules() if isinstance(m, norms) for p in m.parameters()}
    spared |= {
        id(parameter)
        for name, parameter in model.named_parameters()
        if name.endswith("temperature") or name.endswith("layer_scale")
    }
    # 12 blocks of a temperature, three layer scales, three LayerNorms and one norm of a map
    assert len(spared) >= 12 * (1 + 3 + 2 * 3 + 2)
    for name, parameter in model.named_parameters():
        expected = 0 if id(parameter) in spared else cfg.optim_wrapper.optimizer.weight_decay
        assert decay[id(parameter)] == expected, name

    names = [name for name, _ in model.named_parameters()]
    for key in cfg.optim_wrapper.paramwise_cfg.custom_keys:
        assert any(key in name for name in names), key


def test_mmengines_hub_knows_the_configs_and_their_weights():
    cfg = hub.get_config("xcit_dense::maskrcnn/xcit_small_12_p16_maskrcnn_coco.py", pretrained=True)
    assert cfg.model.backbone.arch == "small_12"
    assert cfg.model_path.endswith("coco/maskrcnn_xcit_small_12_p16.pth")

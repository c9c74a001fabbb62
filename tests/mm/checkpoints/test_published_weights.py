"""The table of published ImageNet weights, and how ``--pretrained`` chooses from it."""

from pathlib import Path

import pytest
import timm
from mmengine.config import Config

from xcit_dense.cli.train import make_parser, use_pretrained
from xcit_dense.network.architectures import ARCHS
from xcit_dense.weights.published_weights import (
    published_kinds,
    published_url,
    published_weights,
)

CONFIGS = Path(__file__).parents[3] / "configs"
RELEASE = "https://dl.fbaipublicfiles.com/xcit"
SUPERVISED = ["224", "224_dist", "384_dist"]


def config(**backbone):
    cfg = Config.fromfile(CONFIGS / "xcit_maskrcnn_coco.py")
    cfg.model.backbone.update(backbone)
    return cfg


def test_the_table_has_three_supervised_kinds_of_every_backbone_and_four_of_dino():
    table = {(weights.arch, weights.patch_size, weights.kind) for weights in published_weights()}
    supervised = {
        (arch, patch_size, kind) for arch in ARCHS for patch_size in (8, 16) for kind in SUPERVISED
    }
    dino = {(arch, size, "dino") for arch in ("small_12", "medium_24") for size in (8, 16)}
    assert table == supervised | dino
    assert len(published_weights()) == len(table)
    assert published_kinds() == [*SUPERVISED, "dino"]


def test_the_urls_of_the_supervised_kinds_are_those_that_timm_knows():
    """Two independent sources; neither link was followed."""
    ours = {weights.url for weights in published_weights() if weights.kind != "dino"}
    names = timm.list_models("xcit_*", pretrained=True)
    timms = {timm.get_pretrained_cfg(name).url for name in names}
    assert ours == timms


@pytest.mark.parametrize(
    ("kind", "file"),
    [
        ("224", "xcit_small_12_p16_224.pth"),
        ("224_dist", "xcit_small_12_p16_224_dist.pth"),
        ("384_dist", "xcit_small_12_p16_384_dist.pth"),
        ("dino", "xcit_small_12_cp16_dino.pth"),
    ],
)
def test_pretrained_finds_the_file_for_the_backbone(kind, file):
    cfg = config()
    use_pretrained(cfg, kind)
    assert cfg.model.backbone.init_cfg == {"type": "Pretrained", "checkpoint": f"{RELEASE}/{file}"}


def test_pretrained_follows_arch_and_patch_size():
    cfg = config(arch="large_24", patch_size=8)
    use_pretrained(cfg, "384_dist")
    assert cfg.model.backbone.init_cfg.checkpoint == f"{RELEASE}/xcit_large_24_p8_384_dist.pth"


def test_pretrained_knows_what_a_config_leaves_to_the_backbone():
    cfg = config()
    del cfg.model.backbone["arch"], cfg.model.backbone["patch_size"]
    use_pretrained(cfg, "224")
    assert cfg.model.backbone.init_cfg.checkpoint == f"{RELEASE}/xcit_small_12_p16_224.pth"


@pytest.mark.parametrize("source", ["weights.pth", "https://example.org/weights.pth"])
def test_pretrained_takes_a_file_or_a_url_as_it_is(source):
    cfg = config(arch={"embed_dims": 96, "depth": 6, "num_heads": 4, "eta": 0.1})
    use_pretrained(cfg, source)
    assert cfg.model.backbone.init_cfg.checkpoint == source


def test_pretrained_alone_is_what_the_recipes_start_from():
    assert make_parser().parse_args(["config.py", "--pretrained"]).pretrained == "384_dist"
    assert make_parser().parse_args(["config.py"]).pretrained is None


class TestErrors:
    def test_a_kind_that_is_not_published_for_the_backbone(self):
        expected = (
            r"^--pretrained: no weights 'dino' are published for arch='tiny_12', patch_size=8; "
            r"there are 224, 224_dist, 384_dist$"
        )
        with pytest.raises(ValueError, match=expected):
            use_pretrained(config(arch="tiny_12", patch_size=8), "dino")

    def test_a_backbone_that_is_not_published(self):
        with pytest.raises(ValueError, match="for arch='huge', patch_size=16; there are none"):
            published_url("224", "huge", 16)

    def test_an_arch_of_ones_own(self):
        with pytest.raises(ValueError, match=r"^--pretrained: no weights are published for an ar"):
            use_pretrained(config(arch={"embed_dims": 16}), "384_dist")

    def test_another_backbone(self):
        with pytest.raises(ValueError, match=r"weights are for XCiT, the backbone .* is ResNet;"):
            use_pretrained(config(type="ResNet"), "384_dist")

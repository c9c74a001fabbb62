"""Pictures of attention from the command line, for trained models and classification weights."""

from pathlib import Path

import cv2
import numpy as np
import pytest
import timm
import torch
from mmengine.config import Config
from mmengine.registry import MODELS, init_default_scope

import xcit_dense  # noqa: F401
from xcit_dense.cli import attention as command
from xcit_dense.errors import UserError
from xcit_dense.look.attention import BlockAttention
from xcit_dense.look.attention_pictures import Backdrop, draw_attention

CONFIGS = Path(__file__).parents[2] / "configs"
DETECTION = str(CONFIGS / "demo/xcit_maskrcnn_demo.py")
SEGMENTATION = str(CONFIGS / "demo/xcit_upernet_demo.py")
NANO = str(CONFIGS / "demo/xcit_maskrcnn_fit_check.py")


@pytest.fixture(scope="module")
def image(tmp_path_factory):
    path = tmp_path_factory.mktemp("image") / "image.jpg"
    noise = np.random.default_rng(0).integers(0, 256, (90, 131, 3), dtype=np.uint8)
    cv2.imwrite(str(path), noise)
    return str(path)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """Whole models, by their configs."""
    paths = {}
    for config in (DETECTION, SEGMENTATION):
        cfg = Config.fromfile(config)
        init_default_scope(cfg.default_scope)
        paths[config] = str(tmp_path_factory.mktemp("model") / "model.pth")
        state_dict = MODELS.build(cfg.model).state_dict()
        torch.save({"state_dict": state_dict, "meta": {}}, paths[config])
    return paths


@pytest.fixture(scope="module")
def classification_weights(tmp_path_factory):
    path = tmp_path_factory.mktemp("weights") / "nano.pth"
    tensors = timm.create_model("xcit_nano_12_p16_224").state_dict()
    torch.save({"model": {f"module.{key}": tensor for key, tensor in tensors.items()}}, path)
    return str(path)


@pytest.mark.parametrize("config", [DETECTION, SEGMENTATION])
def test_the_attention_of_a_trained_model(config, trained, image, tmp_path):
    out = tmp_path / "new" / "attention.png"
    command.main([config, trained[config], image, "--out", str(out), "--blocks", "0", "5"])
    picture = cv2.imread(str(out))
    assert picture.shape[0] > picture.shape[1] / 2
    assert picture.std() > 0


@pytest.mark.parametrize("only", [[], ["--class-attention"]])
def test_class_attention_of_classification_weights(
    classification_weights, image, tmp_path, monkeypatch, only
):
    drawn = {}

    def look(backdrop, blocks, class_maps, target):
        drawn.update(blocks=[block.block for block in blocks], maps=class_maps)
        draw_attention(backdrop, blocks, class_maps, target)

    monkeypatch.setattr(command, "draw_attention", look)
    out = tmp_path / "attention.png"
    size = "test_dataloader.dataset.pipeline.1.scale=(99,99)"
    arguments = ["--out", str(out), "--cfg-options", size]
    command.main([NANO, classification_weights, image, *only, *arguments])
    assert drawn["blocks"] == ([] if only else [3, 5, 7, 11])
    assert len(drawn["maps"]) == 2
    for maps in drawn["maps"]:
        assert maps.shape == (4, 6, 8)  # 68 x 99 pixels, padded to 96 x 128
        assert (maps.sum((1, 2)) > 0).all()
        assert (maps.sum((1, 2)) < 1).all()
    assert out.stat().st_size > 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["{detection}", "{nano}", "{image}"], "does not fit the config"),
        (["{detection}", "{trained}", "{image}", "--class-attention"], "classification weights"),
        (["{detection}", "{trained}", "none.jpg"], "none.jpg"),
        (["{detection}", "{trained}", __file__], "cannot prepare"),
        (["{detection}", "{trained}", "{image}", "--cfg-options", "test_dataloader=None"], "demo"),
        (["{detection}", "{trained}", "{image}", "--out", "{image}/a.png"], r"jpg/a\.png"),
        (
            ["{fit}", "{nano}", "{image}", "--cfg-options", "model.backbone.out_indices=(1,3,5,8)"],
            "block 11.*out_indices",
        ),
    ],
)
def test_what_does_not_fit_is_an_error_of_the_user(
    trained, classification_weights, image, arguments, message
):
    names = dict(detection=DETECTION, fit=NANO, image=image)
    names.update(trained=trained[DETECTION], nano=classification_weights)
    with pytest.raises(UserError, match=message):
        command.main([argument.format(**names) for argument in arguments])


def test_a_wrong_command_line_is_refused_before_all_else():
    inputs = ["no_config.py", "none.pth", "none.jpg"]
    with pytest.raises(UserError, match=r"attention\.xyz.*\.png"):
        command.main([*inputs, "--out", "attention.xyz"])
    with pytest.raises(SystemExit, match="2"):
        command.main([*inputs, "--blocks", "0", "--class-attention"])


def test_padding_of_the_test_pipeline_is_no_part_of_the_image(image):
    """As in YOLOX's and RTMDet's: maps lie on the same places with padding and without."""
    cfg = Config.fromfile(DETECTION)
    pipeline = cfg.test_dataloader.dataset.pipeline
    pipeline[1].scale = (99, 99)
    command.init_default_scope("mmdet")
    plain, on_plain = command.prepare(cfg, image, patch_size=8)
    pipeline.insert(2, dict(type="Pad", size=(160, 128), pad_val=dict(img=(114, 114, 114))))
    padded, on_padded = command.prepare(cfg, image, patch_size=8)
    assert padded.shape[-2:] == (128, 160)
    for inputs, backdrop in ((plain, on_plain), (padded, on_padded)):
        rows, columns = (side * 131 / 99 for side in inputs.shape[-2:])
        assert (backdrop.rows, backdrop.columns) == pytest.approx((rows, columns), rel=0.01)


def test_a_map_lies_over_its_place(tmp_path):
    """One place of the grid is coloured in the picture where it is in the image."""
    maps = torch.zeros(1, 4, 4)
    maps[0, 0, 3] = 1
    block = BlockAttention(0, torch.eye(2)[None], maps)
    image = np.full((80, 80, 3), 0.5)
    draw_attention(Backdrop(image, 80, 80), [block], [], tmp_path / "a.png")
    picture = cv2.imread(str(tmp_path / "a.png")).astype(int)
    red = (picture[..., 2] > picture[..., 0] + 60) & (picture[..., 1] < 60)
    red = red[: picture.shape[0] // 2, picture.shape[1] // 2 :]  # the map of head 0
    rows, columns = np.nonzero(red)
    assert red.sum() > 100
    assert rows.mean() < red.shape[0] / 2 < columns.mean() * red.shape[0] / red.shape[1]

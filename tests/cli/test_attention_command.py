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
from xcit_dense.look.attention_pictures import draw_attention

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


def test_published_weights_are_looked_at_where_the_pyramid_taps(
    classification_weights, image, tmp_path, monkeypatch
):
    drawn = {}
    monkeypatch.setattr(
        command, "draw_attention", lambda image, *rest: drawn.update(image=image, rest=rest)
    )
    size = "test_dataloader.dataset.pipeline.1.scale=(99,99)"
    command.main([NANO, classification_weights, image, "--cfg-options", size])
    patch_size, blocks, _ = drawn["rest"]
    assert [block.block for block in blocks] == [3, 5, 7, 11]
    assert patch_size == 16
    assert drawn["image"].shape == (68, 99, 3)
    assert all(block.maps.shape == (4, 6, 8) for block in blocks)  # of 96 x 128 pixels


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["{detection}", "{nano}", "{image}"], "of another network"),
        (["{detection}", "{trained}", "none.jpg"], "none.jpg"),
        (["{detection}", "{trained}", __file__], "cannot prepare"),
        (["{detection}", "{trained}", "{image}", "--cfg-options", "test_dataloader=None"], "demo"),
        (["{detection}", "{trained}", "{image}", "--out", "{image}/a.png"], r"image\.jpg"),
    ],
)
def test_what_does_not_fit_is_an_error_of_the_user(
    trained, classification_weights, image, arguments, message
):
    names = dict(detection=DETECTION, image=image)
    names.update(trained=trained[DETECTION], nano=classification_weights)
    with pytest.raises((UserError, OSError), match=message):
        command.main([argument.format(**names) for argument in arguments])


def test_a_name_of_no_picture_is_refused_before_all_else(capsys):
    with pytest.raises(SystemExit, match="2"):
        command.main(["no_config.py", "none.pth", "none.jpg", "--out", "attention.xyz"])
    assert "attention.xyz: a picture's name ends in one of .eps" in capsys.readouterr().err


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_the_image_below_the_maps_is_what_the_model_gets_in_red_green_blue(tmp_path, channels):
    pixels = np.random.default_rng(0).integers(0, 256, (90, 131, channels), dtype=np.uint8)
    cv2.imwrite(str(tmp_path / "image.png"), pixels)
    cfg = Config.fromfile(DETECTION)
    cfg.test_dataloader.dataset.pipeline[0].color_type = "unchanged"
    cfg.test_dataloader.dataset.pipeline[1].scale = (131, 131)
    cfg.model.data_preprocessor = dict(type="DetDataPreprocessor", pad_size_divisor=32)
    command.init_default_scope("mmdet")
    inputs, image = command.prepare_image(cfg, str(tmp_path / "image.png"))
    assert inputs.shape == (1, channels, 96, 160)
    assert image.shape == (90, 131, 3)
    np.testing.assert_allclose(image[..., 2], pixels[..., 0] / 255, rtol=1e-5)
    np.testing.assert_allclose(image[..., 0], pixels[..., min(2, channels - 1)] / 255, rtol=1e-5)


@pytest.mark.parametrize("patch_size", [20, 600])
def test_a_map_lies_over_its_place(tmp_path, patch_size):
    """One place of the grid is coloured in the picture where it is in the image."""
    maps = torch.zeros(1, 4, 4)
    maps[0, 0, 3] = 1
    block = BlockAttention(0, torch.eye(2)[None], maps)
    image = np.full((4 * patch_size, 4 * patch_size, 3), 0.5)
    draw_attention(image, patch_size, [block], tmp_path / "a.png")
    picture = cv2.imread(str(tmp_path / "a.png")).astype(int)
    red = (picture[..., 2] > picture[..., 0] + 60) & (picture[..., 1] < 60)
    red = red[: picture.shape[0] // 2, picture.shape[1] // 2 :]  # the map of head 0
    rows, columns = np.nonzero(red)
    assert red.sum() > 100
    assert rows.mean() < red.shape[0] / 2 < columns.mean() * red.shape[0] / red.shape[1]

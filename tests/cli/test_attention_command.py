"""Pictures of attention from the command line, for trained models and classification weights."""

import re
import sys
from itertools import pairwise
from pathlib import Path

import cv2
import numpy as np
import pytest
import timm
import torch
from matplotlib.figure import Figure
from mmengine.config import Config
from mmengine.registry import MODELS, init_default_scope

import xcit_dense  # noqa: F401
from xcit_dense.cli import attention as command
from xcit_dense.cli.main import run
from xcit_dense.look.attention_of_blocks import BlockAttention
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


def save_whole_model(config, path):
    cfg = Config.fromfile(config)
    init_default_scope(cfg.default_scope)
    torch.save({"state_dict": MODELS.build(cfg.model).state_dict(), "meta": {}}, path)
    return str(path)


@pytest.fixture(scope="module")
def classification_weights(tmp_path_factory):
    path = tmp_path_factory.mktemp("weights") / "nano.pth"
    model = timm.create_model("xcit_nano_12_p16_224")
    torch.save({"model": model.state_dict()}, path)
    return str(path)


@pytest.mark.parametrize("config", [DETECTION, SEGMENTATION])
def test_the_attention_of_a_trained_model(config, image, tmp_path):
    checkpoint = save_whole_model(config, tmp_path / "model.pth")
    out = tmp_path / "new" / "attention.png"
    command.main([config, checkpoint, image, "--out", str(out), "--blocks", "0", "5"])
    picture = cv2.imread(str(out))
    assert picture.shape[0] > picture.shape[1] / 2
    assert picture.std() > 0


@pytest.mark.parametrize("wrapped", [False, True])
@pytest.mark.parametrize("only", [[], ["--class-attention"]])
def test_class_attention_of_classification_weights(
    classification_weights, image, tmp_path, monkeypatch, only, wrapped
):
    if wrapped:
        tensors = torch.load(classification_weights)["model"]
        classification_weights = str(tmp_path / "wrapped.pth")
        tensors = {f"module.{key}": tensor for key, tensor in tensors.items()}
        torch.save(tensors, classification_weights)
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
    for maps in drawn["maps"]:
        assert maps.shape == (4, 6, 8)  # 68 x 99 pixels, padded to 96 x 128
        assert (maps.sum((1, 2)) > 0).all()
        assert (maps.sum((1, 2)) < 1).all()
    assert len(drawn["maps"]) == 2
    assert out.stat().st_size > 0


def run_tool(monkeypatch, *arguments):
    monkeypatch.setattr(sys, "argv", ["visualize_attention.py", *arguments])
    run(command.main)


def test_what_does_not_fit_ends_with_one_line(
    monkeypatch, classification_weights, image, tmp_path, capsys
):
    with pytest.raises(SystemExit, match=r"^error: .*nano\.pth does not fit the config"):
        run_tool(monkeypatch, DETECTION, classification_weights, image)
    trained = save_whole_model(DETECTION, tmp_path / "model.pth")
    with pytest.raises(SystemExit, match=r"^error: .*--class-attention needs published class"):
        run_tool(monkeypatch, DETECTION, trained, image, "--class-attention")
    with pytest.raises(SystemExit, match=r"^error: config none\.py does not exist"):
        run_tool(monkeypatch, "none.py", trained, image)
    with pytest.raises(SystemExit, match=r"^error: .*none\.jpg: No such file"):
        run_tool(monkeypatch, DETECTION, trained, "none.jpg")
    with pytest.raises(SystemExit):
        run_tool(monkeypatch, DETECTION, trained, image, "--blocks", "6")
    assert "--blocks: no block 6: they are counted 0 to 5" in capsys.readouterr().err
    for wrong in (["6", "--class-attention"], ["0", "--class-attention"]):
        with pytest.raises(SystemExit):
            run_tool(monkeypatch, NANO, classification_weights, image, "--blocks", *wrong)
        assert "draws none of the --blocks: leave one of them out" in capsys.readouterr().err
    no_tests = ["--cfg-options", "test_dataloader=None"]
    with pytest.raises(SystemExit, match=r"^error: config .*: there is no test_dataloader"):
        run_tool(monkeypatch, DETECTION, trained, image, *no_tests)
    (tmp_path / "file").touch()
    with pytest.raises(SystemExit, match=r"^error: --out .*/file/a\.png: .*"):
        run_tool(monkeypatch, DETECTION, trained, image, "--out", str(tmp_path / "file/a.png"))


@pytest.mark.parametrize(
    ("name", "message"),
    [("attention.xyz", r"has to end in one of .*\.png"), ("folder.png", "is a folder")],
)
def test_a_picture_that_cannot_be_written_is_refused_before_all_else(
    tmp_path, capsys, name, message
):
    (tmp_path / "folder.png").mkdir()
    with pytest.raises(SystemExit, match="2"):
        command.main(["no_config.py", "none.pth", "none.jpg", "--out", str(tmp_path / name)])
    assert re.search(message, capsys.readouterr().err)


def test_class_attention_follows_the_last_block_whatever_the_pyramid_taps(classification_weights):
    weights = torch.load(classification_weights)["model"]
    pixels = torch.rand(1, 3, 64, 96, generator=torch.Generator().manual_seed(0))

    def maps(out_indices):
        cfg = Config.fromfile(NANO)
        cfg.model.backbone.out_indices = out_indices
        trunk, tapped = command.load_trunk(cfg, weights, "weights", whole=True)
        assert tuple(tapped) == (out_indices or (3, 5, 7, 11))
        return command.class_attention_maps(trunk, pixels, weights)

    for short, whole in zip(maps((1, 3, 5, 8)), maps(None), strict=True):
        assert np.array_equal(short, whole)


def test_padding_of_the_test_pipeline_is_no_part_of_the_image(image):
    """As in YOLOX's and RTMDet's: maps lie on the same places with padding and without."""
    cfg = Config.fromfile(DETECTION)
    pipeline = cfg.test_dataloader.dataset.pipeline
    pipeline[1].scale = (99, 99)
    plain, on_plain = command.prepare(cfg, image)
    pipeline.insert(2, dict(type="Pad", size=(160, 128), pad_val=dict(img=(114, 114, 114))))
    padded, on_padded = command.prepare(cfg, image)
    assert padded.shape[-2:] == (128, 160)
    assert plain.shape[-2:] != padded.shape[-2:]
    for backdrop in (on_plain, on_padded):
        assert (backdrop.height_of_grid, backdrop.width_of_grid) == (68, 99)


def test_a_map_lies_over_its_place(tmp_path):
    """One place of the grid is coloured in the picture where it is in the image."""
    maps = torch.zeros(1, 4, 4)
    maps[0, 0, 3] = 1
    block = BlockAttention(0, torch.eye(2)[None], torch.ones(1), maps)
    image = np.full((80, 80, 3), 128, np.uint8)
    draw_attention(Backdrop(image, 80, 80), [block], [], tmp_path / "a.png")
    picture = cv2.imread(str(tmp_path / "a.png")).astype(int)
    red = (picture[..., 2] > picture[..., 0] + 60) & (picture[..., 1] < 60)
    red = red[: picture.shape[0] // 2, picture.shape[1] // 2 :]  # the map of head 0
    rows, columns = np.nonzero(red)
    assert red.sum() > 100
    assert rows.mean() < red.shape[0] / 2 < columns.mean() * red.shape[0] / red.shape[1]


@pytest.mark.parametrize("size", [(90, 131), (600, 100), (100, 600), (3000, 20), (20, 3000)])
def test_titles_are_legible_whatever_the_shape_of_the_image(size, tmp_path, monkeypatch):
    figures = []
    monkeypatch.setattr(Figure, "savefig", lambda figure, *_, **__: figures.append(figure))
    maps = torch.ones(4, 2, 2)
    block = BlockAttention(11, torch.ones(4, 8, 8), torch.full((4,), 12.34), maps)
    backdrop = Backdrop(np.zeros((*size, 3), np.uint8), *size)
    draw_attention(backdrop, [block], [maps.numpy()], tmp_path / "a.png")
    (figure,) = figures
    figure.canvas.draw()
    rows = np.array(figure.axes).reshape(3, 5)
    for row in rows:
        titles = [axes.title.get_window_extent() for axes in row]
        assert all(left.x1 < right.x0 for left, right in pairwise(titles))
        assert figure.bbox.x0 <= titles[0].x0
        assert titles[-1].x1 <= figure.bbox.x1
    for axes in (*rows[0], *rows[2]):  # wide enough to be seen
        assert min(axes.get_window_extent().size) > 20
    assert (figure.get_suptitle() != "") == (max(size) > 6 * min(size))

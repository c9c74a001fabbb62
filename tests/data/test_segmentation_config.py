"""Masks of every kind come to the right labels through mmseg's own data set."""

import numpy as np
import pytest
from mmengine.registry import init_default_scope
from mmseg.registry import DATASETS
from PIL import Image

import xcit_dense.mm.mmengine_patches  # noqa: F401
from xcit_dense.data.mask_classes import read_names
from xcit_dense.data.mask_folder import read_mask_folder
from xcit_dense.data.new_config import Request, write_config
from xcit_dense.data.segmentation_config import segmentation_config
from xcit_dense.errors import UserError
from xcit_dense.mm.config import read_config
from xcit_dense.weights.published_weights import published_url

RED, GREEN, BLACK = (255, 0, 0), (0, 255, 0), (0, 0, 0)


def regions(*values, dtype=np.uint8):
    """A mask (32, 48) of upright stripes."""
    return np.array(values, dtype)[np.arange(48) * len(values) // 48][None].repeat(32, 0)


def with_palette(values, colours):
    image = Image.fromarray(regions(*values))
    image.putpalette(np.array(colours, np.uint8).tobytes())
    return image


def save(folder, masks):
    """Images and their masks, which are arrays or images."""
    for inner in ("images", "masks"):
        (folder / inner).mkdir(parents=True, exist_ok=True)
    for number, mask in enumerate(masks):
        mask = mask if isinstance(mask, Image.Image) else Image.fromarray(mask)
        mask.save(folder / f"masks/{number}.png")
        Image.new("RGB", mask.size).save(folder / f"images/{number}.jpg")
    return folder


def config(tmp_path, *parts, names=None, ignored=None, force=False, **asked):
    """The config for lists of masks, to train and to validate, or for one to be divided."""
    if names is not None:
        (tmp_path / "names.txt").write_text("\n".join(names))
        names = read_names(tmp_path / "names.txt")
    saved = [save(tmp_path / f"data{number}", masks) for number, masks in enumerate(parts)]
    found = [read_mask_folder(folder / "images", folder / "masks") for folder in saved]
    asked = {"val_fraction": 0.5, "arch": "nano_12", "pretrained": False, **asked}
    request = Request(out=tmp_path / "out/mine.py", **asked)
    write_config(segmentation_config(request, found, names, ignored), request.out, force)
    return read_config(str(request.out))


def data_set(cfg, split):
    init_default_scope("mmseg")
    # quicker: mmengine collects garbage to serialize
    return DATASETS.build(
        cfg[f"{split}_dataloader"].dataset, default_args=dict(serialize_data=False)
    )


def labels_of(cfg, splits=("train", "val")):
    """The label maps by the number of their image, as training and validation load them."""
    found = {}
    for split in splits:
        dataset = data_set(cfg, split)
        dataset.pipeline.transforms = [
            step for step in dataset.pipeline.transforms if type(step).__name__.startswith("Load")
        ]
        for sample in dataset:
            name = sample["img_path"].rpartition("/")[2].partition(".")[0]
            found[int(name)] = sample["gt_seg_map"]
    return [found[number] for number in sorted(found)]


RGB = np.array([BLACK, RED, GREEN], np.uint8)[regions(0, 1, 2)]
RGBA = np.dstack([RGB, regions(9, 200, 255)])
FLAG = dict(names=["red 255 0 0", "none:0,0,0::", "green 0 255 0"])
KINDS = {
    "indices": (regions(0, 1, 2, 255), {}, "class_0 class_1 class_2", [0, 1, 2, 255], True),
    "binary": (regions(0, 255), {}, "background foreground", [0, 1], False),
    "binary named": (regions(0, 255), dict(names=["sky", "bird"]), "sky bird", [0, 1], False),
    "gaps named": (regions(7, 0, 20), dict(names="abc"), "a b c", [1, 0, 2], False),
    "from 1": (regions(1, 2, 3), dict(names="abc"), "a b c", [0, 1, 2], False),
    "one absent": (regions(0, 2, 255), dict(names="abc"), "a b c", [0, 2, 255], True),
    "0 left out": (
        regions(0, 1, 2, 255), dict(ignored="0"), "class_1 class_2", [255, 0, 1, 255], False,
    ),
    "0 left out, named": (
        regions(0, 3, 1), dict(ignored="0", names="abc"), "a b c", [255, 2, 0], False,
    ),
    "2 left out": (regions(0, 1, 2), dict(ignored="2"), "class_0 class_1", [0, 1, 255], False),
    "16 bits": (
        regions(0, 300, 65535, dtype=np.uint16), dict(ignored="65535"), "class_0 class_300",
        [0, 1, 255], False,
    ),
    "16 bits, small": (regions(0, 1, dtype=np.uint16), {}, "class_0 class_1", [0, 1], True),
    "grey in RGB": (
        regions(0, 1, 2)[..., None].repeat(3, 2), {}, "class_0 class_1 class_2", [0, 1, 2], False,
    ),
    "colours": (RGB, {}, "class_0 class_1 class_2", [0, 2, 1], False),
    "colours named": (RGB, FLAG, "red none green", [1, 0, 2], False),
    "a colour left out": (RGB, dict(ignored="0,0,0", **FLAG), "red green", [255, 0, 1], False),
    "alpha": (RGBA, FLAG, "red none green", [1, 0, 2], False),
    "palette": (
        with_palette([0, 1, 2], [BLACK, RED, GREEN]), {}, "class_0 class_1 class_2", [0, 1, 2],
        True,
    ),
}  # fmt: skip


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("kind", KINDS)
def test_labels_of_every_kind(tmp_path, kind):
    mask, options, classes, labels, in_place = KINDS[kind]
    cfg = config(tmp_path, [mask] * 4, **options)
    assert list(cfg.metainfo.classes) == classes.split()
    for found in labels_of(cfg):
        np.testing.assert_array_equal(found, regions(*labels))
    assert (tmp_path / "out/mine_masks").exists() != in_place
    heads = (cfg.model.decode_head, cfg.model.auxiliary_head)
    assert {head.num_classes for head in heads} == {len(classes.split())}


def test_where_palettes_differ_colours_are_the_classes(tmp_path):
    one, other = (with_palette([0, 1], colours) for colours in ([BLACK, RED], [RED, BLACK]))
    first, second, *_ = labels_of(config(tmp_path, [one, other] * 2))
    np.testing.assert_array_equal(first, regions(0, 1))
    np.testing.assert_array_equal(second, regions(1, 0))


def test_a_folder_with_palettes_and_one_without_have_the_same_numbers(tmp_path):
    coloured = [with_palette([0, 1, 2], [BLACK, RED, GREEN])] * 2
    cfg = config(tmp_path, coloured, [regions(2, 0, 1, 9)] * 2)
    assert cfg.metainfo.classes == ("class_0", "class_1", "class_2", "class_9")
    for split, labels in ("train", [0, 1, 2]), ("val", [2, 0, 1, 3]):
        np.testing.assert_array_equal(labels_of(cfg, [split])[0], regions(*labels))
    for kind, other in (coloured, [regions(0, 255)] * 2), ([RGB] * 2, [regions(0, 1, 2)] * 2):
        with pytest.raises(UserError, match=r"data0/masks and .*different kinds.*save both in one"):
            config(tmp_path, kind, other, force=True)
    black = [np.zeros((32, 48), np.uint8)] * 2
    cfg = config(tmp_path, [RGB] * 2, black, force=True)
    assert set(np.unique(labels_of(cfg, ["train"]))) == {0, 1, 2}


def test_names_with_several_suffixes_are_read_from_label_maps(tmp_path):
    save(tmp_path / "data0", [regions(0, 1)] * 4)
    (tmp_path / "data0/images/3.jpg").rename(tmp_path / "data0/images/3.JPG")
    assert all(np.array_equal(found, regions(0, 1)) for found in labels_of(config(tmp_path, [])))


def test_a_second_folder_is_for_validation(tmp_path):
    cfg = config(tmp_path, [regions(0, 9)] * 3, [regions(0, 4)] * 3)
    for split, label in ("train", 2), ("val", 1):
        labels = labels_of(cfg, [split])
        assert len(labels) == 3 and set(np.unique(labels)) == {0, label}


def test_classes_are_told_with_values_and_shares(tmp_path):
    folder = save(tmp_path, [regions(0, 0, 0, 255), regions(0, 0, 0, 9), regions(0, 0, 0, 9)])
    found = read_mask_folder(folder / "images", folder / "masks")
    notes = segmentation_config(Request(out=tmp_path / "a.py"), [found]).notes
    shares = ["75.0%, 75.0%", "25.0%, 0.0%", "0.0%, 25.0%"]
    assert f"class_0 (0; {shares[0]}), class_9 (9; {shares[1]})" in notes[2]
    assert f"left out; a name for every value makes it a class (255; {shares[2]})" in notes
    assert any("no pixel to validate on: class_9" in note for note in notes)


@pytest.mark.parametrize(
    ("masks", "options", "told"),
    [
        ([regions(0, 0)], {}, ["1 class of the values 0;", "the background"]),
        ([regions(0, 1, 2)], dict(names="ab"), ["2 names", "3 values, 0, 1, 2"]),
        ([regions(0, 1)], dict(names="aa"), ["a is there twice"]),
        ([regions(0, 1)], dict(names=[]), ["is empty"]),
        ([regions(0, 1)], dict(ignored="7"), ["no pixel has it", "0, 1"]),
        ([RGB], dict(names="abc"), ["no colour for a", "'road 128 64 128'"]),
        ([RGB], dict(names=["a 0 0 0", "b 0 255 0"]), ["no line for 255 0 0"]),
        ([regions(0, 1)], dict(batch_size=1), ["--batch-size 1"]),
    ],
)  # fmt: skip
def test_what_cannot_be_used_is_told_and_nothing_is_written(tmp_path, masks, options, told):
    with pytest.raises(UserError) as caught:
        config(tmp_path, masks * 4, **options)
    assert all(text in str(caught.value) for text in told)
    assert not (tmp_path / "out").exists()


def test_label_maps_are_written_over_and_nothing_else(tmp_path):
    config(tmp_path, [regions(0, 255)] * 4)
    maps = tmp_path / "out/mine_masks/train"
    (maps / "old.png").touch()
    config(tmp_path, [regions(0, 255)] * 4, force=True)
    assert (maps / "old.png").exists() and len(list(maps.iterdir())) == 3
    masks = (tmp_path / "data0/masks").rename(tmp_path / "mine_masks")
    found = read_mask_folder(tmp_path / "data0/images", masks)
    with pytest.raises(UserError, match="with your masks: name another -o"):
        segmentation_config(Request(out=tmp_path / "mine.py"), [found])


def test_lines_of_names(tmp_path):
    path = tmp_path / "names.txt"
    path.write_text("\ufeff# label:color_rgb:parts:actions\ncar:1,2,3::\n\na b 64 128 64\nÄ 7\n")
    assert read_names(path) == {"car": 0x010203, "a b": 0x408040, "Ä 7": None}


def test_the_schedule_follows_the_images(tmp_path):
    cfg = config(tmp_path, [regions(0, 1)] * 40, batch_size=4, gpus=2, epochs=50, scale=(256, 64))
    # 20 images, 8 a step: 3 steps an epoch
    assert cfg.optim_wrapper.optimizer.lr == pytest.approx(6e-4 * 8 / 16)
    assert (cfg.train_cfg.max_iters, cfg.train_cfg.val_interval) == (150, 6)
    assert [s.end for s in cfg.param_scheduler] == [15, 150]
    hooks = cfg.default_hooks
    assert (hooks.logger.interval, hooks.checkpoint.interval) == (3, 6)
    assert hooks.checkpoint.save_best == "mIoU"
    assert cfg.model.data_preprocessor.size == cfg.train_pipeline[3].crop_size == (64, 64)


@pytest.mark.parametrize("head", ["upernet", "semfpn", "mask2former"])
def test_configs_are_short_and_start_from_weights_of_the_backbone(tmp_path, head):
    names, arch = [f"class {number}" for number in range(150)], dict(arch="tiny_12", patch_size=8)
    masks = [regions(*range(0, 150, 10))] * 4
    cfg = config(tmp_path, masks, names=names, head=head, pretrained=True, **arch)
    assert data_set(cfg, "train").metainfo["classes"] == tuple(names)
    assert len((tmp_path / "out/mine.py").read_text().splitlines()) <= 40
    backbone = cfg.model.backbone
    assert (backbone.arch, backbone.patch_size) == ("tiny_12", 8)
    assert backbone.init_cfg.checkpoint == published_url("384_dist", "tiny_12", 8)
    assert cfg.model.decode_head.in_channels == [192] * 4

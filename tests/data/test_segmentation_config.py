"""Masks of every kind come to the right labels through mmseg's own data set."""

import numpy as np
import pytest
from mmengine.registry import init_default_scope
from mmseg.registry import DATASETS
from PIL import Image

import xcit_dense.mm.mmengine_patches  # noqa: F401
from xcit_dense.data.mask_classes import ClassName, read_names
from xcit_dense.data.segmentation_config import write_segmentation_config
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


def folders(tmp_path, masks, suffix=".jpg"):
    """Images and their masks, which are arrays or images."""
    for number, mask in enumerate(masks):
        mask = mask if isinstance(mask, Image.Image) else Image.fromarray(mask)
        for folder, image in ("images", Image.new("RGB", mask.size)), ("masks", mask):
            (tmp_path / folder).mkdir(parents=True, exist_ok=True)
            image.save(tmp_path / folder / f"{number}{suffix if folder == 'images' else '.png'}")
    return dict(images=[tmp_path / "images"], masks=[tmp_path / "masks"])


def config(tmp_path, masks, names=None, **options):
    if names is not None:
        (tmp_path / "names.txt").write_text("\n".join(names))
        options["names"] = tmp_path / "names.txt"
    out = tmp_path / "out/mine.py"
    settings = dict(val_fraction=0.5, arch="nano_12", pretrained=False, **options)
    write_segmentation_config(**folders(tmp_path, masks), out=out, **settings)
    return read_config(str(out))


def data_set(cfg, split):
    init_default_scope("mmseg")
    # quicker: mmengine collects garbage to serialize
    return DATASETS.build(
        cfg[f"{split}_dataloader"].dataset, default_args=dict(serialize_data=False)
    )


def labels_of(cfg):
    """The label maps by the number of their image, as training and validation load them."""
    found = {}
    for split in ("train", "val"):
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
FLAG = dict(names=["red 255 0 0", "none:0,0,0::", "0 255 0\tgreen"])
KINDS = {
    "indices": (regions(0, 1, 2, 255), {}, "class_0 class_1 class_2", [0, 1, 2, 255], True),
    "bits": (regions(0, 1) > 0, {}, "class_0 class_1", [0, 1], True),
    "binary": (regions(0, 255), {}, "background foreground", [0, 1], False),
    "binary named": (regions(0, 255), dict(names=["sky", "bird"]), "sky bird", [0, 1], False),
    "gaps": (regions(7, 0, 20), {}, "class_0 class_7 class_20", [1, 0, 2], False),
    "gaps named": (regions(7, 0, 20), dict(names="abc"), "a b c", [1, 0, 2], False),
    "from 1": (regions(1, 2, 3), dict(names="abc"), "a b c", [0, 1, 2], False),
    "one absent": (regions(0, 2, 255), dict(names="abc"), "a b c", [0, 2, 255], True),
    "255 named": (regions(0, 128, 255), dict(names="abc"), "a b c", [0, 1, 2], False),
    "0 left out": (
        regions(0, 1, 2, 255), dict(ignore_label=0), "class_1 class_2", [255, 0, 1, 255], True,
    ),
    "0 left out, named": (
        regions(0, 3, 1), dict(ignore_label="0", names="abc"), "a b c", [255, 2, 0], True,
    ),
    "0 left out, gaps": (
        regions(0, 3, 1), dict(ignore_label=0), "class_1 class_3", [255, 1, 0], False,
    ),
    "2 left out": (regions(0, 1, 2), dict(ignore_label=2), "class_0 class_1", [0, 1, 255], False),
    "16 bits": (
        regions(0, 300, 65535, dtype=np.uint16), dict(ignore_label=65535), "class_0 class_300",
        [0, 1, 255], False,
    ),
    "16 bits, small": (regions(0, 1, dtype=np.uint16), {}, "class_0 class_1", [0, 1], True),
    "grey in RGB": (
        regions(0, 1, 2)[..., None].repeat(3, 2), {}, "class_0 class_1 class_2", [0, 1, 2], False,
    ),
    "grey and alpha": (
        Image.fromarray(np.dstack([regions(0, 1), regions(255, 255)]), "LA"), {},
        "class_0 class_1", [0, 1], False,
    ),
    "colours": (RGB, {}, "class_0 class_1 class_2", [0, 2, 1], False),
    "colours named": (RGB, FLAG, "red none green", [1, 0, 2], False),
    "a colour left out": (RGB, dict(ignore_label="0,0,0", **FLAG), "red green", [255, 0, 1], False),
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
    cfg = config(tmp_path, [mask, mask], **options)
    assert list(cfg.metainfo.classes) == classes.split()
    for found in labels_of(cfg):
        np.testing.assert_array_equal(found, regions(*labels))
    assert (tmp_path / "out/mine_masks").exists() != in_place
    heads = (cfg.model.decode_head, cfg.model.auxiliary_head)
    assert {head.num_classes for head in heads} == {len(classes.split())}


def test_palettes_are_kept_and_where_they_differ_colours_are_the_classes(tmp_path):
    one, other = (with_palette([0, 1], colours) for colours in ([BLACK, RED], [RED, BLACK]))
    assert config(tmp_path / "a", [one, one]).metainfo.palette == [BLACK, RED]
    first, second = labels_of(config(tmp_path / "b", [one, other]))
    np.testing.assert_array_equal(first, regions(0, 1))
    np.testing.assert_array_equal(second, regions(1, 0))
    with Image.open(tmp_path / "b/out/mine_masks/0.jpg.png") as written:
        assert written.getpalette()[:6] == [*BLACK, *RED]


def test_names_with_several_suffixes_are_read_from_label_maps(tmp_path):
    made = folders(tmp_path, [regions(0, 1)] * 4)
    (tmp_path / "images/3.jpg").rename(tmp_path / "images/3.JPG")
    write_segmentation_config(**made, out=tmp_path / "mine.py", pretrained=False)
    for found in labels_of(read_config(str(tmp_path / "mine.py"))):
        np.testing.assert_array_equal(found, regions(0, 1))


def test_a_second_folder_is_for_validation(tmp_path):
    made = [
        folders(tmp_path / part, [regions(0, value)] * 3) for part, value in [("a", 9), ("b", 4)]
    ]
    both = {key: [part[key][0] for part in made] for key in ("images", "masks")}
    _, findings = write_segmentation_config(**both, out=tmp_path / "mine.py", pretrained=False)
    cfg = read_config(str(tmp_path / "mine.py"))
    assert "class_4" in next(f.text for f in findings if "train split" in f.text)
    for split, label in ("train", 2), ("val", 1):
        dataset = data_set(cfg, split)
        assert len(dataset) == 3
        labels = dataset.pipeline.transforms[-2 if split == "val" else 1](dataset.get_data_info(0))
        assert set(np.unique(labels["gt_seg_map"])) == {0, label}


@pytest.mark.parametrize(
    ("masks", "options", "told"),
    [
        ([regions(0, 0)], {}, ["1 classes of the values 0;", "the background"]),
        ([regions(0, 1, 2)], dict(names="ab"), ["2 names", "3 values, 0, 1, 2"]),
        ([regions(0, 1)], dict(names="aa"), ["a is there twice"]),
        ([regions(0, 1)], dict(names=[]), ["is empty"]),
        ([regions(0, 1)], dict(ignore_label=7), ["no pixel has it", "0, 1"]),
        ([regions(0, 1)], dict(ignore_label="1,2,3"), ["numbers"]),
        ([RGB], dict(names="abc"), ["0 0 0", "no colour for a", "'road 128 64 128'"]),
        ([RGB], dict(names=["a 0 0 0", "b 0 255 0"]), ["no line for 255 0 0"]),
        ([RGB], dict(ignore_label=0), ["colours: give R,G,B"]),
        ([np.tile(np.arange(0, 96, 2, np.uint8), (32, 1))], {}, ["single pixels", "smooth edges"]),
        ([regions(0, 1)], dict(batch_size=1), ["--batch-size 1"]),
        ([regions(0, 1)], dict(head="retinanet"), ["upernet, semfpn, mask2former"]),
    ],
)  # fmt: skip
def test_what_cannot_be_used_is_told_and_nothing_is_written(tmp_path, masks, options, told):
    with pytest.raises(UserError) as caught:
        config(tmp_path, masks * 2, **options)
    assert all(text in str(caught.value) for text in told)
    assert not (tmp_path / "out").exists()


def test_only_what_was_written_is_written_over(tmp_path):
    config(tmp_path, [regions(0, 255)] * 2)
    maps = tmp_path / "out/mine_masks"
    for gone, named in ("nothing", "mine.py"), ("mine.py", "mine_masks"):
        (tmp_path / "out" / gone).unlink(missing_ok=True)
        with pytest.raises(UserError, match=f"{named} is there already"):
            config(tmp_path, [regions(0, 255)] * 2)
    (maps / "old.png").touch()
    config(tmp_path, [regions(0, 255)] * 2, force=True)
    assert sorted(path.name for path in maps.iterdir()) == ["0.jpg.png", "1.jpg.png"]
    masks = (tmp_path / "masks").rename(tmp_path / "mine_masks")
    with pytest.raises(UserError, match="choose OUT anew"):
        write_segmentation_config(
            images=[tmp_path / "images"], masks=[masks], out=tmp_path / "mine.py", force=True
        )
    assert len(list(masks.iterdir())) == 2


def test_lines_of_names(tmp_path):
    path = tmp_path / "names.txt"
    path.write_text("\ufeff# label:color_rgb:parts:actions\ncar:1,2,3::\n\n64 128 64\ttree\nÄ 7\n")
    expected = [("car", (1, 2, 3)), ("tree", (64, 128, 64)), ("Ä 7", None)]
    assert read_names(path) == [ClassName(*line) for line in expected]


def test_the_schedule_follows_the_images(tmp_path):
    cfg = config(tmp_path, [regions(0, 1)] * 40, batch_size=4, gpus=2, epochs=50, scale=(256, 64))
    # 20 images, 8 a step: 3 steps an epoch
    assert cfg.optim_wrapper.optimizer.lr == pytest.approx(6e-5 * 8 / 16)
    assert cfg.train_cfg.max_iters == 152 and cfg.train_cfg.val_interval == 8
    assert [(s.begin, s.end) for s in cfg.param_scheduler] == [(0, 15), (15, 152)]
    assert cfg.default_hooks.logger.interval == 3
    assert cfg.default_hooks.checkpoint.interval == 8
    assert cfg.default_hooks.checkpoint.save_best == "mIoU"
    assert cfg.model.data_preprocessor.size == cfg.train_pipeline[3].crop_size == (64, 64)


def test_pretrained_weights_are_those_of_the_backbone(tmp_path):
    made = folders(tmp_path, [regions(0, 1)] * 2)
    for arch, patch_size in ("tiny_12", 8), ("large_24", 16):
        out = tmp_path / f"{arch}.py"
        write_segmentation_config(**made, out=out, arch=arch, patch_size=patch_size)
        backbone = read_config(str(out)).model.backbone
        assert (backbone.arch, backbone.patch_size) == (arch, patch_size)
        assert backbone.init_cfg.checkpoint == published_url("384_dist", arch, patch_size)


def test_many_classes_are_named_in_a_file_of_their_own(tmp_path):
    names = [f"class {number}" for number in range(150)]
    cfg = config(tmp_path, [regions(*range(0, 150, 10))] * 2, names=names)
    dataset = data_set(cfg, "train")
    assert dataset.metainfo["classes"] == names and len(dataset.metainfo["palette"]) == 150


@pytest.mark.parametrize("head", ["upernet", "semfpn", "mask2former"])
def test_configs_are_short(tmp_path, head):
    labels = range(21)
    mask = with_palette([*labels], [(9 * label, 255 - 9 * label, 0) for label in labels])
    config(tmp_path, [mask, mask], names=[f"a class {n}" for n in labels], head=head)
    lines = (tmp_path / "out/mine.py").read_text().splitlines()
    assert len(lines) <= 40 and max(map(len, lines)) <= 100 + len(str(tmp_path))

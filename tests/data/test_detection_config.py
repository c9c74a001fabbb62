"""The config that is written says what is promised, in few lines; only what is mended is copied."""

import io
import json
from dataclasses import replace
from pathlib import Path

import pytest

import xcit_dense.mm.mmengine_patches  # noqa: F401 (xcit_dense:: in _base_)
from xcit_dense.data.coco_export import CocoExport
from xcit_dense.data.detection_config import detection_config
from xcit_dense.data.new_config import Request
from xcit_dense.errors import UserError
from xcit_dense.mm.config import dicts_in, read_config
from xcit_dense.weights.published_weights import published_url

MASK = [[0, 0, 20, 0, 20, 20, 0, 20]]


def an_export(tmp_path, split="train", number=10, names=("human", "old flask"), ids=(90, 7)):
    """Of ``number`` images of 640 x 480, each with one object of 20 x 20 of the first class."""
    size = {"width": 640, "height": 480}
    images = [{"id": i, "file_name": f"{i}.jpg", **size} for i in range(number)]
    shape = {"bbox": [0, 0, 20, 20], "area": 400, "iscrowd": 0, "segmentation": MASK}
    objects = [{"id": i + 1, "image_id": i, "category_id": ids[0], **shape} for i in range(number)]
    categories = [{"id": i, "name": name} for i, name in zip(ids, names, strict=True)]
    content = {"images": images, "annotations": objects, "categories": categories}
    folder = tmp_path / "data" / split
    return CocoExport(tmp_path / "data" / f"{split}.json", folder, content, has_masks=True)


def make(tmp_path, *exports, drop_empty=False, **options):
    out = tmp_path / "c.py"
    request = Request(out=out, title="made by me", **options)
    made = detection_config(request, exports, drop_empty)
    out.write_text(made.text)
    return made, read_config(str(out))


def written(made, tmp_path, split="train"):
    """The content of an annotation file that is written beside the config."""
    made.files[tmp_path / "c_annotations" / f"{split}.json"](file := io.BytesIO())
    return json.loads(file.getvalue())


@pytest.mark.parametrize(
    "head", [None, "maskrcnn", "cascade", "retinanet", "fasterrcnn", "mask2former"]
)
def test_every_head_has_the_classes_and_the_widths(tmp_path, head):
    two = [an_export(tmp_path, split) for split in ("train", "val")]
    made, cfg = make(tmp_path, *two, head=head, arch="tiny_12", patch_size=8)
    assert len(made.text.splitlines()) <= 40
    assert not made.files
    learns_masks = head not in ("retinanet", "fasterrcnn")
    nodes = [node for path, node in dicts_in(cfg.model) if "backbone" not in path]
    numbers = [node["num_classes"] for node in nodes if "num_classes" in node]
    expected = {"cascade": 4, "mask2former": 0, "retinanet": 1, "fasterrcnn": 1}.get(head, 2)
    assert numbers == [2] * expected
    widths = cfg.model[{"mask2former": "panoptic_head"}.get(head, "neck")].in_channels
    assert set(widths) == {192}
    if head == "mask2former":
        assert cfg.model.panoptic_head.loss_cls.class_weight == [1.0, 1.0, 0.1]
        for part in ("panoptic_head", "panoptic_fusion_head"):
            things, stuff = cfg.model[part].num_things_classes, cfg.model[part].num_stuff_classes
            assert (things, stuff) == (2, 0)
    backbone = cfg.model.backbone
    assert (backbone.arch, backbone.patch_size, backbone.drop_path_rate) == ("tiny_12", 8, 0.0)
    metric = "coco/segm_mAP" if learns_masks else "coco/bbox_mAP"
    assert cfg.default_hooks.checkpoint.save_best == metric
    assert cfg.val_evaluator.metric == (["bbox", "segm"] if learns_masks else "bbox")
    for pipeline in (cfg.train_pipeline, cfg.test_pipeline, cfg.tta_pipeline):
        loads = [node for _, node in dicts_in(pipeline) if node.get("type") == "LoadAnnotations"]
        assert [node.get("with_mask", False) for node in loads] == [learns_masks]


def test_the_config_has_what_was_asked_for_and_proposed(tmp_path):
    two = [an_export(tmp_path, "train", 100), an_export(tmp_path, "val", 5)]
    made, cfg = make(tmp_path, *two, batch_size=4, gpus=2, epochs=24)
    assert made.text.startswith("# made by me\n_base_ = ")
    optimizer = cfg.optim_wrapper.optimizer
    assert (optimizer.lr, optimizer.weight_decay, cfg.auto_scale_lr.base_batch_size) == (
        5e-5,
        0.05,
        8,
    )
    assert (cfg.train_dataloader.batch_size, cfg.train_cfg.max_epochs) == (4, 24)
    warm_up, steps = cfg.param_scheduler
    assert (warm_up.type, warm_up.end, warm_up.by_epoch) == ("LinearLR", 31, False)
    assert (steps.milestones, steps.end) == ([18, 22], 24)
    assert (cfg.default_hooks.logger.interval, cfg.default_hooks.checkpoint.interval) == (13, 1)
    assert cfg.model.backbone.init_cfg.checkpoint == published_url("384_dist", "small_12", 16)
    # 20 pixels become 24 by the scale, which the anchors of 32 fit
    resizes = (cfg.test_pipeline[1], cfg.tta_pipeline[1].transforms[0][0])
    assert [resize.scale for resize in resizes] == [(768, 576)] * 2
    assert cfg.train_pipeline[2].scales == [(768, s) for s in (352, 416, 448, 512, 576)]
    assert cfg.model.rpn_head.anchor_generator.scales == [8]
    root = tmp_path / "data"
    for split, name in (("train", "train"), ("val", "val"), ("test", "val")):
        dataset = cfg[f"{split}_dataloader"].dataset
        assert dataset.metainfo.classes == ("human", "old flask")
        assert Path(dataset.data_root) == root
        assert root / dataset.ann_file == root / f"{name}.json"
        assert root / dataset.data_prefix.img == root / name
    assert cfg.test_evaluator.ann_file == str(tmp_path / "data" / "val.json")
    assert "mind: without objects to train on: old flask" in "\n".join(made.notes)
    assert "0.0% than 8" in "\n".join(made.notes)


@pytest.mark.parametrize("number", [1, 90])
def test_names_of_any_kind_are_classes_and_fit_into_the_lines(tmp_path, number):
    odd = ('a "b"', "it's", "c\\d", "e\nf", "\u87ba\u4e1d  x", "#", "{g}", " h ", "i, j")
    names = tuple(f"{odd[i % len(odd)]}{i}" for i in range(number))
    two = [an_export(tmp_path, split, names=names, ids=range(number)) for split in ("train", "val")]
    made, cfg = make(tmp_path, *two, head="cascade")
    assert cfg.train_dataloader.dataset.metainfo.classes == names
    assert len(made.text.splitlines()) <= 40


def test_one_file_is_divided_by_image_with_a_seed(tmp_path):
    export = an_export(tmp_path, number=30)
    for i, record in enumerate(export.content["images"]):  # three copies of each, by Roboflow
        record["file_name"] = f"{i // 3}_jpg.rf.{i}abc.jpg"
    before = str(export.content)
    made, cfg = make(tmp_path, export, val_fraction=0.3, seed=1)
    assert str(export.content) == before
    parts = [written(made, tmp_path, split) for split in ("train", "val")]
    train, val = ({record["id"] for record in part["images"]} for part in parts)
    assert (len(train), len(val), train | val) == (21, 9, set(range(30)))
    assert len({number // 3 for number in val}) == 3
    assert {record["image_id"] for record in parts[1]["annotations"]} == val
    dataset = cfg.train_dataloader.dataset
    assert (dataset.ann_file, dataset.data_prefix.img) == ("c_annotations/train.json", "data/train")
    again, other = (make(tmp_path, export, val_fraction=0.3, seed=seed)[0] for seed in (1, 2))
    assert written(again, tmp_path) == parts[0] != written(other, tmp_path)


@pytest.mark.parametrize(("drop_empty", "classes"), [(False, ("bolt", "nut")), (True, ("bolt",))])
def test_a_parent_is_no_class_and_empty_categories_are_left_to_the_user(
    tmp_path, drop_empty, classes
):
    same = {"names": ("bolt", "screws", "nut"), "ids": (1, 0, 2)}
    train, val = (an_export(tmp_path, split, **same) for split in ("train", "val"))
    train.content["categories"][0]["supercategory"] = "screws"
    made, cfg = make(tmp_path, train, val, drop_empty=drop_empty)
    assert cfg.metainfo.classes == classes
    assert not made.files
    assert "no class: screws" in "\n".join(made.notes)


def test_categories_that_an_exporter_left_out_for_validation_are_added(tmp_path):
    lacking = an_export(tmp_path, "val", names=("old flask",), ids=(5,))
    made, cfg = make(tmp_path, an_export(tmp_path), lacking)
    categories = written(made, tmp_path, "val")["categories"]
    assert [(each["id"], each["name"]) for each in categories] == [(5, "old flask"), (6, "human")]
    assert list(made.files) == [tmp_path / "c_annotations/val.json"]
    assert cfg.metainfo.classes == ("human", "old flask")
    assert any("val.json: categories added: human" in note for note in made.notes)


def test_images_that_mmdet_leaves_out_do_not_count(tmp_path):
    export = an_export(tmp_path, number=10)
    export.content["images"][0]["height"] = 31
    export.content["annotations"][1]["bbox"] = [0, 0, 0.5, 20]
    export.content["annotations"][2]["iscrowd"] = 1
    made, cfg = make(tmp_path, export, an_export(tmp_path, "val"), batch_size=1)
    assert cfg.default_hooks.logger.interval == 7
    assert "3 images without an object" in "\n".join(made.notes)


@pytest.mark.parametrize(
    ("box", "told"),
    [
        ([0, 0.2, 0.5, 0.8], "parts of the image's size"),
        ([330, 250, 600, 400], "look like corners"),
    ],
)
def test_boxes_of_another_kind_are_told_before_anything_is_proposed(tmp_path, box, told):
    export = an_export(tmp_path)
    for record in export.content["annotations"]:
        record["bbox"] = box
    with pytest.raises(UserError, match=rf"val\.json: .*{told}.*; write bbox as \[left, top, w"):
        make(tmp_path, an_export(tmp_path), replace(export, path=tmp_path / "val.json"))


def test_what_nothing_can_be_learned_from_is_refused(tmp_path):
    boxes = an_export(tmp_path)
    boxes.has_masks = False
    with pytest.raises(UserError, match=r"--head mask2former learns masks.*train\.json"):
        make(tmp_path, boxes, head="mask2former")
    assert make(tmp_path, boxes, head="cascade")[1].model.type == "CascadeRCNN"
    other = an_export(tmp_path, "val", names=("old flask", "person"), ids=(5, 6))
    other.content["annotations"][0]["category_id"] = 6
    with pytest.raises(UserError, match=r"val\.json: has no category human, and objects of person"):
        make(tmp_path, an_export(tmp_path), other)
    assert an_export(tmp_path, number=1).numbers() == "1 image, 1 object"
    with pytest.raises(UserError, match="one image cannot be divided"):
        make(tmp_path, an_export(tmp_path, number=1))
    crowds = an_export(tmp_path)
    for record in crowds.content["annotations"]:
        record["iscrowd"] = 1
    with pytest.raises(UserError, match="no object can be learned"):
        make(tmp_path, crowds, an_export(tmp_path, "val"))
    crowds.content["annotations"] = []
    with pytest.raises(UserError, match="has no objects to train on"):
        make(tmp_path, crowds, an_export(tmp_path, "val"))

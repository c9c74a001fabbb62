"""Faults of annotations, label maps and configs are named before training, sound data are sound."""

import copy
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from dev.demo_data import Plan, write_ade20k, write_coco
from mmengine.config import Config
from mmengine.registry import DATASETS, DefaultScope
from PIL import Image

import xcit_dense  # noqa: F401
from xcit_dense.cli import check_data as command
from xcit_dense.cli import doctor, train
from xcit_dense.data.checking import check_data
from xcit_dense.errors import UserError
from xcit_dense.mm import annotations
from xcit_dense.mm.annotations import read_annotations_safely
from xcit_dense.mm.data import set_data_root

CONFIGS = Path(__file__).parents[2] / "configs"
DETECTION, SEGMENTATION = (
    str(CONFIGS / f"demo/xcit_{name}_demo.py") for name in ("maskrcnn", "upernet")
)
SPLITS = ["train", "val"]
LOADER, DATASET = "train_dataloader", "train_dataloader.dataset"
NAMES = ["circle", "square", "triangle", "star", "cross"]
CLASSES = f"{DATASET}.metainfo.classes"
BOX_HEAD = "model.roi_head.bbox_head.num_classes"


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    root = tmp_path_factory.mktemp("data")
    write_coco(root / "coco", Plan(train=30, val=4, size=64))
    write_ade20k(root / "ade20k", Plan(train=8, val=4, size=64))
    return root


@pytest.fixture
def coco(data, tmp_path):
    """A data set in COCO's format to spoil."""
    for name in ("train2017", "val2017"):
        (tmp_path / name).symlink_to(data / "coco" / name)
    (tmp_path / "annotations").mkdir()
    for file in (data / "coco/annotations").iterdir():
        (tmp_path / "annotations" / file.name).write_text(file.read_text())
    return tmp_path


def config(path, root, **changes):
    cfg = Config.fromfile(path)
    set_data_root(cfg, str(root))
    cfg.merge_from_dict({name.replace("__", "."): value for name, value in changes.items()})
    return cfg


def found(cfg):
    _, findings = check_data(cfg, SPLITS, processes=1)
    return findings


def expect(findings, is_wrong, named):
    """One finding says all of it, and how to mend it."""
    told = [
        f for f in findings if all(part in f"{f.text}; {f.remedy}" for part in named.split("..."))
    ]
    assert [finding.is_wrong for finding in told] == [is_wrong], findings
    assert told[0].remedy
    assert not any("is not understood" in finding.text for finding in findings)


def test_sound_data_have_no_findings(data):
    assert found(config(DETECTION, data / "coco")) == []
    assert found(config(SEGMENTATION, data / "ade20k")) == []


def test_another_order_of_categories_is_told_of_the_training_file_alone(coco):
    edit(coco / "annotations/instances_val2017.json", lambda c: c["categories"].reverse())
    assert found(config(DETECTION, coco)) == []
    edit(coco / "annotations/instances_train2017.json", lambda c: c["categories"].reverse())
    expect(found(config(DETECTION, coco)), False, "another order...nothing to do, unless")


def test_a_forgotten_metainfo_is_that_of_the_training_data_everywhere(coco):
    edit(coco / "annotations/instances_val2017.json", lambda c: c["categories"].reverse())
    forgotten = {f"{split}_dataloader.dataset.metainfo": None for split in SPLITS}
    findings = found(config(DETECTION, coco, **forgotten))
    expect(findings, True, "val2017.json: 80 of...give it the same metainfo as the")
    assert sum("classes=('circle', 'square'" in finding.remedy for finding in findings) == 1


@pytest.mark.parametrize("box", [[0.1, 0.2, 0.5, 0.5], lambda record: corners(record)])
def test_boxes_of_another_kind_have_one_remedy(coco, box):
    edit(coco / "annotations/instances_train2017.json", change("annotations", bbox=box))
    assert [each.is_wrong for each in found(config(DETECTION, coco))] == [True]


def change(name, /, **values):
    """Spoils all records of a list."""

    def spoil(content):
        for record in content[name]:
            for key, value in values.items():
                record[key] = value(record) if callable(value) else value

    return spoil


def corners(record):
    left, top, across, down = record["bbox"]
    return [left, top, left + across, top + down]


def rename(before, after):
    return change("categories", name=lambda record: record["name"].replace(before, after))


def call_files(form):
    return change("images", file_name=lambda record: form.format(record["file_name"]))


def repeat(name, /, **values):
    return lambda content: content[name].append({**content[name][0], **values})


def first(**values):
    return lambda content: content["annotations"][0].update(values)


def edit(file, spoil):
    content = json.loads(file.read_text())
    text = spoil(content)
    file.write_text(text if isinstance(text, str) else json.dumps(content))


FAULTS_OF_FILES = [
    (lambda content: "", True, "is no annotation file in COCO's format...export it anew"),
    (lambda content: "[]", True, "is list, no dict...export it anew"),
    (lambda content: content["annotations"].clear(), True, "0 objects and none to...test set"),
    (lambda content: content["categories"].clear(), True, "category_id is the id of none"),
    (rename("circle", "disk"), True, "1 of the 5 classes are no category...'circle'...disk...take"),
    (rename("circle", "cirlce"), True, "is it 'cirlce' for 'circle'?"),
    (rename("circle", "Circle "), True, "is it 'Circle ' for 'circle'?"),
    (rename("s", "z"), True, "3 of the 5 classes are no category"),
    (
        repeat("categories", id=99),
        True,
        "'circle' is the name of several categories...objects of all",
    ),
    (lambda content: content["categories"].reverse(), False, "order than metainfo.classes"),
    (repeat("categories", id=99, name="moon"), False, "no class: moon; 0 of "),
    (change("annotations", category_id=1), False, "without an object...square, tri"),
    (change("annotations", iscrowd=1), True, "none to learn from: 0 are of no class...are crowds"),
    (change("annotations", bbox=corners), True, "look like corners...[left, top, w"),
    (change("annotations", bbox=[40, 1, 30, 9]), True, "boxes leave their image...another size"),
    (
        change("annotations", bbox=[0.1, 0.2, 0.5, 0.5]),
        True,
        "look like parts of the image...in pixels",
    ),
    (change("annotations", bbox=[20, 20, -9, -9]), True, "none to learn from...a box smaller"),
    (first(bbox=[20, 20, -9, 9]), False, "have a box of negative width"),
    (first(bbox=[-20, 20, 60, 9]), False, "have a box or a polygon that reaches out"),
    (first(bbox=[1, 2, 3]), True, "bbox must be [left, top...annotations[0] (id 1)"),
    (first(area=0), False, "annotations have no area"),
    (first(id=2), True, "another one has this id: annotations[1] (id 2)...anew"),
    (first(segmentation=[]), True, "has no segmentation...with_mask=False"),
    (first(segmentation={"size": [64, 64], "counts": [9]}), True, "run lengths must"),
    (call_files("gone"), True, "30 of its 30 images are missing...correct data_prefix"),
    (call_files("train2017/{}"), True, "30 images are missing...is there: correct data_prefix"),
    (call_files("C:\\a\\{}"), True, "30 images are missing...is there: correct data_prefix"),
]


@pytest.mark.parametrize(("spoil", "is_wrong", "named"), FAULTS_OF_FILES)
def test_faults_of_annotation_files(coco, spoil, is_wrong, named):
    file = coco / "annotations/instances_train2017.json"
    edit(file, spoil)
    findings = found(config(DETECTION, coco))
    expect(findings, is_wrong, named)
    assert all(str(file) in each.text for each in findings if each.is_wrong)
    assert sum(each.is_wrong for each in findings) == is_wrong


FILTER = {"type": "FilterAnnotations", "min_gt_bbox_wh": (90, 9)}
BEST = "default_hooks.checkpoint.save_best"
FAULTS_OF_CONFIGS = [
    ({BOX_HEAD: 80}, True, f"{BOX_HEAD} = 80, but the training data have 5...of every head"),
    ({"model.roi_head.mask_head.num_classes": 1}, True, "mask_head.num_classes = 1, but"),
    ({CLASSES: "circle"}, True, "classes='circle' is one text...classes=('circle',)"),
    ({CLASSES: []}, True, "classes=[] must be names"),
    ({CLASSES: [*NAMES, "star"]}, True, "must be names, one or more, each once"),
    ({CLASSES: [1, 2]}, True, "classes=[1, 2] must be names"),
    ({CLASSES: NAMES[::-1]}, True, "different classes, label 0 is 'cross' and 'circle'"),
    ({CLASSES: NAMES[:4]}, True, "different classes, 4 and 5 of them"),
    ({f"{DATASET}.metainfo": None}, True, "80 of the 80 classes...metainfo=dict(classes=('circle'"),
    ({f"{DATASET}.metainfo": {"CLASSES": NAMES, "_delete_": True}}, True, "which nothing reads"),
    ({f"{DATASET}.filter_cfg.min_size": 99}, True, "min_size leaves out 77 of 77 objects"),
    ({f"{DATASET}.pipeline.4": FILTER}, False, "FilterAnnotations.min_gt_bbox_wh leaves out"),
    ({f"{DATASET}.pipeline.1.with_mask": False}, True, "no step of the training pipeline loads"),
    ({"model.roi_head.mask_head": None}, True, "val_evaluator.metric has 'segm'...'bbox'"),
    ({"val_evaluator.ann_file": "gone.json"}, True, "is not there, is not the file of the data"),
    ({f"{LOADER}.batch_size": 2}, False, "batches of 4...make 2...--auto-scale-lr"),
    ({f"{DATASET}.pipeline": [{"type": "LoadImageFromFile"}]}, False, "packs...'PackDetInputs'"),
    ({"optim_wrapper.optimizer.lr": 3.0}, False, "lr=3.0 of AdamW...1e-4"),
    ({"train_cfg.val_interval": 300}, False, "val_interval=300...ends after 8...once, at"),
    ({BEST: "coco/mAP"}, True, "save_best='coco/mAP' is no metric...one of coco/bbox_mAP,"),
]


@pytest.mark.parametrize(("changes", "is_wrong", "named"), FAULTS_OF_CONFIGS)
def test_faults_of_configs_of_detection(data, changes, is_wrong, named):
    expect(found(config(DETECTION, data / "coco", **changes)), is_wrong, named)


SIZE, FOLDERS = "model.data_preprocessor.size", f"{DATASET}.data_prefix"
MAPS, BOTH = f"{FOLDERS}.seg_map_path", {"img_path": "images", "seg_map_path": "annotations"}
FAULTS_OF_SEGMENTATION = [
    ({"model.decode_head.num_classes": 2}, True, "decode_head.num_classes = 2, but"),
    ({"model.auxiliary_head.num_classes": 19}, False, "auxiliary_head.num_classes = 19, but"),
    ({f"{DATASET}.type": "ADE20KDataset"}, True, "150 classes of its own...BaseSegDataset"),
    ({f"{DATASET}.metainfo": None}, True, "metainfo has no classes, and BaseSegDataset none"),
    ({SIZE: (64, 64)}, True, "crops of (144, 144)...(64, 64): larger...size=(144, 144)"),
    ({SIZE: (288, 288)}, False, "75% of each batch is padding"),
    ({SIZE: None}, True, "size=None and size_divisor=None...size=(HEIGHT, WIDTH)"),
    (
        {f"{DATASET}.img_suffix": ".jpeg"},
        True,
        "ends with img_suffix='.jpeg'; there are ADE_train_00000001.jpg",
    ),
    ({MAPS: "images/training"}, True, "have no label map...there are ADE_train_00000001.jpg"),
    ({f"{FOLDERS}.img_path": "images/validation"}, False, "label maps have no image"),
    ({MAPS: "annotations/validation"}, True, "8 of 8 images have no label map...00000001.png"),
    ({BEST: "mIou"}, True, "save_best='mIou' is no metric...one of aAcc, mIoU, mAcc"),
    ({FOLDERS: BOTH}, False, "4 of 4 images are trained on too...ADE_val_00000001.jpg"),
]


@pytest.mark.parametrize(("changes", "is_wrong", "named"), FAULTS_OF_SEGMENTATION)
def test_faults_of_configs_of_segmentation(data, changes, is_wrong, named):
    expect(found(config(SEGMENTATION, data / "ade20k", **changes)), is_wrong, named)


REDUCED = f"{DATASET}.reduce_zero_label"


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({REDUCED: False}, True),
        ({REDUCED: False, f"{DATASET}.pipeline.3.type": "MyFlip"}, False),
        ({REDUCED: False, f"{DATASET}.pipeline.1.type": "MyLoad"}, False),
        ({REDUCED: False, f"{DATASET}.pipeline.1.imdecode_backend": "tifffile"}, False),
    ],
)
def test_training_looks_at_a_few_label_maps(data, changes, told):
    cfg = config(SEGMENTATION, data / "ade20k", **changes)
    _, findings = check_data(cfg, SPLITS, trains=True)
    if told:
        expect(findings, True, "4 of 8 label maps have labels that are no class...if 1 is the fir")
    assert len(findings) == told


def test_images_that_are_trained_and_evaluated_are_found(coco, data):
    copied = sorted(path.name for path in (coco / "train2017").iterdir())[-1]
    (coco / "val2017").unlink()
    shutil.copytree(data / "coco/val2017", coco / "val2017")
    shutil.copyfile(coco / "train2017" / copied, coco / "val2017" / copied)
    edit(coco / "annotations/instances_val2017.json", repeat("images", id=99, file_name=copied))
    expect(found(config(DETECTION, coco)), False, f"1 of 5 images are trained on too...{copied}")
    assert not found(config(DETECTION, coco, evaluates_training_images=True))


def test_data_sets_in_wrappers_are_checked_each(data):
    cfg = config(DETECTION, data / "coco")
    plain = cfg.train_dataloader.dataset
    other = copy.deepcopy(plain)
    other.metainfo.classes = NAMES[::-1]
    joined = {"type": "ConcatDataset", "datasets": [plain, other]}
    cfg.train_dataloader.dataset = {"type": "RepeatDataset", "times": 3, "dataset": joined}
    expect(found(cfg), True, "dataset.dataset.datasets.1 have different classes")


def test_training_ends_before_it_builds_anything(coco, capfd, tmp_path):
    options = ["--data-root", str(coco), "--work-dir", str(tmp_path / "work"), "--cfg-options"]
    with pytest.raises(UserError, match=r"mask_head.num_classes = 1, but .*; make the two agree"):
        train.main([
            DETECTION, *options, f"{BOX_HEAD}=7", "model.roi_head.mask_head.num_classes=1",
            "train_dataloader.batch_size=2",
        ])  # fmt: skip
    lines = [line for line in capfd.readouterr().err.splitlines() if ": " in line]
    assert lines[0].startswith("warning: the learning rate is for batches of 4")
    assert lines[1].startswith(f"error: {BOX_HEAD} = 7, but")
    assert not (tmp_path / "work").exists() or not list((tmp_path / "work").glob("*.pth"))


def test_the_doctor_looks_at_annotations_that_are_there(coco, capsys):
    file = coco / "annotations/instances_train2017.json"
    edit(file, first(bbox=[1, 2, 3]))
    root = [f"{split}_dataloader.dataset.data_root={coco}" for split in SPLITS]
    evaluator = f"val_evaluator.ann_file={coco}/annotations/instances_val2017.json"
    assert doctor.main([DETECTION, "--cfg-options", *root, evaluator]) == 1
    assert f"wrong: {file}: 1 of " in capsys.readouterr().out
    gone = [f"{split}_dataloader.dataset.data_root=/gone" for split in SPLITS]
    assert doctor.main([DETECTION, "--cfg-options", *gone]) == 0
    assert "files of the data are not looked at: train data: looked" in capsys.readouterr().out


def test_what_was_read_is_not_read_again(data, monkeypatch):
    cfg = config(DETECTION, data / "coco")
    read_annotations_safely(cfg)
    check_data(cfg, SPLITS, trains=True)
    read = []
    monkeypatch.setattr("pycocotools.coco.json.load", lambda file: read.append(file.name))
    with DefaultScope.overwrite_default_scope("mmdet"):
        built = [DATASETS.build(cfg[f"{split}_dataloader"].dataset) for split in SPLITS]
    assert [len(each) for each in built] == [28, 4] and not read
    assert sum(len(each) for each in annotations._HANDED_ON.values()) == 1  # for the metric


@pytest.mark.parametrize(("path", "kind"), [(DETECTION, "coco"), (SEGMENTATION, "ade20k")])
def test_the_command_draws_every_data_set(data, tmp_path, capsys, path, kind):
    arguments = [path, "--data-root", str(data / kind), "--out", str(tmp_path)]
    assert command.main(arguments) == 0
    printed = capsys.readouterr().out.splitlines()
    assert printed[0].startswith("train_dataloader.dataset: ") and printed[-1] == "sound"
    for split in SPLITS:
        with Image.open(tmp_path / f"{split}.png") as picture:
            assert np.asarray(picture.convert("L")).std() > 10


def test_the_command_looks_at_pixels_unless_told_not_to(coco, data, capsys):
    (coco / "val2017").unlink()
    (coco / "val2017").mkdir()
    for file in (data / "coco/val2017").iterdir():
        (coco / "val2017" / file.name).touch()
    arguments = [DETECTION, "--data-root", str(coco)]
    assert command.main(arguments) == 1
    printed = capsys.readouterr().out
    assert "wrong: 4 of 4 images cannot be read" in printed and "  remedy: " in printed
    assert command.main([*arguments, "--no-pixels"]) == 0

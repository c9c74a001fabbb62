"""From a folder to a training in two commands, and nothing lost on the way."""

import json
from pathlib import Path

import numpy as np
import pytest
from mmengine.config import Config
from PIL import Image

from xcit_dense.cli import new_config, train
from xcit_dense.errors import UserError

SMALL = ["--arch", "nano_12", "--scale", "64", "64", "--no-pretrained", "--epochs", "1"]
OBJECTS = ["--coco", "labels.json", "--images", "photos", *SMALL]
MASKS = ["--masks", "masks", "--images", "photos", *SMALL]


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Eight images with a square each, annotated as a careless exporter would do it, and masks."""
    monkeypatch.chdir(tmp_path)
    content = {"images": [], "annotations": [], "categories": [{"id": "k", "name": "square"}]}
    for i in range(8):
        pixels = np.zeros((64, 64), np.uint8)
        pixels[10:40, 10 + i : 40 + i] = 255
        for inner, image in (("masks", pixels), ("photos", np.dstack([pixels] * 3))):
            (tmp_path / inner).mkdir(exist_ok=True)
            Image.fromarray(image).save(tmp_path / inner / f"{i}.png")
        content["images"].append({"id": str(i), "file_name": f"images\\{i}.png"})
        box = {"bbox": [10.0 + i, 10.0, 30.0, 30.0]}
        content["annotations"].append({"id": i, "image_id": i, "category_id": "k"} | box)
    (tmp_path / "labels.json").write_text(json.dumps(content))
    return tmp_path


def trained():
    """Train with ``my_config.py``, in this process, and return the checkpoints."""
    keys = ("num_workers=0", "persistent_workers=False")
    loaders = [f"{split}_dataloader.{key}" for split in ("train", "val") for key in keys]
    train.main(["my_config.py", "--cfg-options", *loaders])
    return [path.name for path in Path("work_dirs/my_config").glob("*.pth")]


def test_two_commands_train_a_detector(folder, capsys):
    before = (folder / "labels.json").read_bytes()
    assert new_config.main([*OBJECTS, "--head", "retinanet"]) == 0
    out = capsys.readouterr().out
    assert "classes (objects to train and to validate on): square (6, 2)" in out
    assert "\nhealthy\nnext:\n  xcit-dense browse my_config.py" in out
    assert out.endswith("  xcit-dense train my_config.py\n")
    assert (folder / "labels.json").read_bytes() == before
    assert "epoch_1.pth" in trained()


def test_what_is_not_healthy_is_not_to_be_trained(folder, capsys):
    content = json.loads((folder / "labels.json").read_text())
    for record in content["annotations"]:
        record["bbox"] = [-9, -9, 5, 5]
    (folder / "labels.json").write_text(json.dumps(content))
    assert new_config.main([*OBJECTS, "--batch-size", "1"]) == 1
    out = capsys.readouterr().out
    assert "not healthy" in out and "next:" not in out


@pytest.mark.parametrize("head", ["upernet", "semfpn", "mask2former"])
def test_two_commands_train_a_segmentor(folder, capsys, head):
    assert new_config.main([*MASKS, "--head", head]) == 0
    out = capsys.readouterr().out
    assert "background (0; 78.0%, 78.0%), foreground (255; 22.0%, 22.0%)" in out
    assert "wrong:" not in out
    if head == "semfpn":
        assert any(name.startswith("best_mIoU") for name in trained())


def test_nothing_that_is_there_is_replaced_unless_told(folder):
    given = [*OBJECTS, "--no-check", "-o", "mine.py"]
    (folder / "mine_annotations").mkdir()
    (folder / "mine_annotations" / "val.json").write_text("{}")
    with pytest.raises(UserError, match=r"mine_annotations/val\.json is there already: .*--force"):
        new_config.main(given)
    assert not (folder / "mine.py").exists()
    new_config.main([*given, "--force", "--seed", "3"])
    assert Config.fromfile("mine.py").model.type == "FasterRCNN"
    mended = folder / "mine_annotations" / "val.json"
    assert len(json.loads(mended.read_text())["images"]) == 2
    with pytest.raises(UserError, match=r"val\.json is to be read, not replaced"):
        new_config.main([*given, "--force", "--batch-size", "1", "--coco", str(mended)])


def test_several_gpus_start_by_torchrun(folder, capsys):
    new_config.main([*OBJECTS, "--no-check", "--gpus", "2"])
    end = "torchrun --nproc-per-node 2 --no-python xcit-dense train my_config.py --launcher pytorch"
    assert capsys.readouterr().out.endswith(f"{end}\n")


@pytest.mark.parametrize(
    ("options", "error"),
    [
        (["--coco", "a", "b", "c"], "--coco takes one or two"),
        (["--images", "photos", "photos"], "two folders need two"),
        (["--head", "upernet"], "of --coco learn"),
        (["--coco", "nowhere.json"], "nowhere.json"),
        (["-o", "a.yml"], r"must end in \.py"),
    ],
)
def test_what_cannot_be_is_refused(folder, options, error):
    with pytest.raises((UserError, OSError), match=error):
        new_config.main([*OBJECTS, *options])
    assert not (folder / "my_config.py").exists()


@pytest.mark.parametrize("option", [["--val-fraction", "1"], ["--gpus", "0"], ["--arch", "huge"]])
def test_impossible_numbers_are_refused(folder, option, capsys):
    with pytest.raises(SystemExit):
        new_config.main([*OBJECTS, *option])
    assert option[0] in capsys.readouterr().err

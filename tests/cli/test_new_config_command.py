"""From a folder to a training in two commands, and nothing lost on the way."""

import json

import numpy as np
import pytest
from mmengine.config import Config
from PIL import Image

from xcit_dense.cli import new_config, train
from xcit_dense.errors import UserError

SMALL = ["--arch", "nano_12", "--scale", "64", "64", "--no-pretrained", "--epochs", "1"]


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Eight images with a square each, annotated as a careless exporter would do it."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "photos").mkdir()
    content = {"images": [], "annotations": [], "categories": [{"id": "k", "name": "square"}]}
    for i in range(8):
        pixels = np.zeros((64, 64, 3), np.uint8)
        pixels[10:40, 10 + i : 40 + i] = 255
        Image.fromarray(pixels).save(tmp_path / "photos" / f"{i}.png")
        content["images"].append({"id": str(i), "file_name": f"images\\{i}.png"})
        box = {"bbox": [10.0 + i, 10.0, 30.0, 30.0]}
        content["annotations"].append({"id": i, "image_id": i, "category_id": "k"} | box)
    (tmp_path / "labels.json").write_text(json.dumps(content))
    return tmp_path


def test_two_commands_train(folder, capsys):
    before = (folder / "labels.json").read_bytes()
    given = ["--coco", "labels.json", "--images", "photos", "--head", "retinanet", *SMALL]
    assert new_config.main(given) == 0
    out = capsys.readouterr().out
    assert "classes (objects to train and to validate on): square (6, 2)" in out
    assert "\nhealthy\nnext:\n  xcit-dense browse my_config.py" in out
    assert out.endswith("  xcit-dense train my_config.py\n")
    assert (folder / "labels.json").read_bytes() == before
    faster = ["train_dataloader.num_workers=0", "train_dataloader.persistent_workers=False"]
    faster += ["val_dataloader.num_workers=0", "val_dataloader.persistent_workers=False"]
    train.main(["my_config.py", "--cfg-options", *faster])
    assert (folder / "work_dirs/my_config/epoch_1.pth").is_file()


def test_nothing_that_is_there_is_replaced_unless_told(folder):
    given = ["--coco", "labels.json", "--images", "photos", *SMALL, "--no-check", "-o", "mine.py"]
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
    new_config.main(
        ["--coco", "labels.json", "--images", "photos", *SMALL, "--no-check", "--gpus", "2"]
    )
    end = "torchrun --nproc-per-node 2 --no-python xcit-dense train my_config.py --launcher pytorch"
    assert capsys.readouterr().out.endswith(f"{end}\n")


@pytest.mark.parametrize(
    ("options", "error"),
    [
        (["--coco", "a", "b", "c", "--images", "photos"], "--coco takes one or two"),
        (["--coco", "labels.json", "--images", "photos", "photos"], "two folders need two of --coco"),
        (["--coco", "nowhere.json", "--images", "photos"], "nowhere.json"),
        (["--coco", "labels.json", "--images", "photos", "-o", "a.yml"], r"must end in \.py"),
    ],
)
def test_what_cannot_be_is_refused(folder, options, error):
    with pytest.raises((UserError, OSError), match=error):
        new_config.main([*options, *SMALL])
    assert not (folder / "my_config.py").exists()


@pytest.mark.parametrize("option", [["--val-fraction", "1"], ["--gpus", "0"], ["--arch", "huge"]])
def test_impossible_numbers_are_refused(folder, option, capsys):
    with pytest.raises(SystemExit):
        new_config.main(["--coco", "labels.json", "--images", "photos", *option])
    assert option[0] in capsys.readouterr().err

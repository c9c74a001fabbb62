"""Pictures of what a model is fed show the batch that the model gets."""

from pathlib import Path

import cv2
import pytest
from dev.demo_data import Plan, write_ade20k, write_coco

import xcit_dense  # noqa: F401
from xcit_dense.cli import browse

CONFIGS = Path(__file__).parents[2] / "configs"
CONFIG = {
    "coco": str(CONFIGS / "demo/xcit_maskrcnn_demo.py"),
    "ade20k": str(CONFIGS / "demo/xcit_upernet_demo.py"),
}
PLAN = Plan(train=5, val=3, size=64)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    root = tmp_path_factory.mktemp("data")
    write_coco(root / "coco", PLAN)
    write_ade20k(root / "ade20k", PLAN)
    return root


# of coco's five images one is empty and left out, and an epoch ends
@pytest.mark.parametrize(
    ("kind", "split", "expected"),
    [("coco", "train", 4), ("coco", "val", 3), ("ade20k", "train", 6), ("ade20k", "val", 3)],
)
def test_pictures_of_both_tasks(data, tmp_path, capsys, kind, split, expected):
    root = ["--data-root", str(data / kind)]
    arguments = ["--split", split, "--number", "6", "--out", str(tmp_path)]
    assert browse.main([CONFIG[kind], *root, *arguments]) == 0
    assert f"{expected} pictures written to" in capsys.readouterr().out
    drawn = [cv2.imread(str(path)) for path in sorted(tmp_path.iterdir())]
    assert len(drawn) == expected
    assert all(picture.std() > 0 for picture in drawn)


def test_images_that_fail_are_skipped_and_change_the_exit_code(tmp_path, capsys):
    write_coco(tmp_path / "data", PLAN)
    first, *others = sorted((tmp_path / "data/val2017").iterdir())
    arguments = [CONFIG["coco"], "--data-root", str(tmp_path / "data"), "--split", "val", "--out"]
    first.write_bytes(b"no image")
    assert browse.main([*arguments, str(tmp_path / "out")]) == 1
    printed = capsys.readouterr().out
    assert "2 pictures written to" in printed
    assert f"  skipped {first}: " in printed
    for path in others:
        path.write_bytes(b"")
    assert browse.main([*arguments, str(tmp_path / "none")]) == 1

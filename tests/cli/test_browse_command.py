"""Pictures of what a model is fed show the batch that the model gets."""

import os
import shutil
import sys
from pathlib import Path

import cv2
import pytest
from dev.demo_data import Plan, write_ade20k, write_coco

import xcit_dense  # noqa: F401
from xcit_dense.cli import browse as browse_dataset
from xcit_dense.cli.main import run
from xcit_dense.predict.ground_truth_pictures import draw_ground_truth

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


@pytest.mark.parametrize("kind", ["coco", "ade20k"])
@pytest.mark.parametrize(("split", "expected"), [("train", 6), ("val", 3)])
def test_pictures_of_both_tasks(data, tmp_path, capsys, kind, split, expected):
    root = ["--data-root", str(data / kind)]
    if (kind, split) == ("coco", "train"):
        expected = 4  # one of the five is empty and left out, and an epoch ends
    browse_dataset.main(
        [CONFIG[kind], *root, "--split", split, "--number", "6", "--out", str(tmp_path)]
    )
    assert f"{expected} pictures written to" in capsys.readouterr().out
    drawn = [cv2.imread(str(path)) for path in sorted(tmp_path.iterdir())]
    assert len(drawn) == expected
    assert all(picture.std() > 0 for picture in drawn)


@pytest.mark.parametrize(("split", "expected"), [("train", False), ("val", True)])
def test_the_truth_is_drawn_as_the_pipeline_leaves_it(data, tmp_path, monkeypatch, split, expected):
    """mm's pipelines for testing leave it as it is in the file."""
    seen = []

    def look(pixels, sample, categories, annotated_as_read):
        seen.append(annotated_as_read)
        return draw_ground_truth(pixels, sample, categories, annotated_as_read)

    monkeypatch.setattr(browse_dataset, "draw_ground_truth", look)
    arguments = ["--split", split, "--number", "1", "--out", str(tmp_path)]
    browse_dataset.main([CONFIG["coco"], "--data-root", str(data / "coco"), *arguments])
    assert seen == [expected]


def run_tool(monkeypatch, *arguments):
    monkeypatch.setattr(sys, "argv", ["browse_dataset.py", *map(str, arguments)])
    run(browse_dataset.main)


def test_missing_data_end_the_tool_with_one_line(monkeypatch, tmp_path):
    arguments = [CONFIG["coco"], "--data-root", "/no/where", "--out", tmp_path]
    with pytest.raises(SystemExit, match=r"^error: train data: looked for /no/where/annotations"):
        run_tool(monkeypatch, *arguments)


def test_unusable_configs_end_the_tool_with_one_line(data, monkeypatch, tmp_path):
    arguments = [CONFIG["coco"], "--data-root", data / "coco", "--out", tmp_path, "--cfg-options"]
    with pytest.raises(SystemExit, match=r"^error: config .*: there is no train_dataloader$"):
        run_tool(monkeypatch, *arguments, "train_dataloader=None")
    unknown = "train_dataloader.dataset.pipeline.2.type=Reside"
    with pytest.raises(SystemExit, match=r"^error: config .* cannot be built \(KeyError.*Reside"):
        run_tool(monkeypatch, *arguments, unknown)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--number", "0"], "--number 0: at least 1"),
        (["--out", __file__], f"--out {__file__} is a file; wanted is a folder"),
    ],
)
def test_wrong_options_are_refused_before_all_else(tmp_path, capsys, arguments, message):
    with pytest.raises(SystemExit, match="2"):
        browse_dataset.main(["no_config.py", "--out", str(tmp_path), *arguments])
    assert message in capsys.readouterr().err


def test_images_that_fail_are_skipped_and_change_the_exit_code(tmp_path, monkeypatch, capsys):
    write_coco(tmp_path / "data", PLAN)
    first, *others = sorted((tmp_path / "data/val2017").iterdir())
    first.write_bytes(b"no image")
    arguments = [CONFIG["coco"], "--data-root", tmp_path / "data", "--split", "val"]
    with pytest.raises(SystemExit) as some:
        run_tool(monkeypatch, *arguments, "--out", tmp_path / "out")
    printed = capsys.readouterr().out
    assert some.value.code == 3
    assert "2 pictures written to" in printed
    assert f"  skipped {first}: no image, or of an unknown format" in printed
    for path in others:
        path.write_bytes(b"")
    with pytest.raises(SystemExit) as none:
        run_tool(monkeypatch, *arguments, "--out", tmp_path / "none")
    assert none.value.code == 1


def test_names_that_are_not_utf_8(data, tmp_path):
    root = tmp_path / "data"
    shutil.copytree(data / "ade20k", root)
    images, labels = root / "images/validation", root / "annotations/validation"
    path = sorted(images.iterdir())[0]
    name = os.fsdecode(b"caf\xe9")
    (labels / f"{path.stem}.png").rename(labels / f"{name}.png")
    path.rename(images / f"{name}{path.suffix}")
    out = tmp_path / "out"
    arguments = [CONFIG["ade20k"], "--data-root", str(root), "--split", "val", "--out", str(out)]
    assert browse_dataset.main(arguments) == 0
    assert len(list(out.iterdir())) == 3

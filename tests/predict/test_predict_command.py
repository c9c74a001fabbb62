"""The command line of predictions: every kind of input, and nothing stops the run."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from PIL import Image
from pycocotools.coco import COCO

from xcit_dense.cli.predict import main
from xcit_dense.cli.test import main as evaluate
from xcit_dense.predict import Predictor

PROJECT = Path(__file__).parents[2]


@pytest.fixture
def mixed(tmp_path, coco):
    """Good images and bad ones, some of equal names."""
    folder = tmp_path / "mixed"
    for name in ["a", "b"]:
        shutil.copytree(coco / "val2017", folder / name)
    Image.new("L", (31, 40), 90).save(folder / "grey.png")
    Image.new("CMYK", (31, 40)).save(folder / "cmyk.jpg")
    Image.new("RGBA", (31, 40)).save(folder / "alpha.png")
    Image.new("RGB", (1, 1)).save(folder / "pixel.png")
    Image.new("RGB", (3000, 1)).save(folder / "strip.png")
    cv2.imwrite(str(folder / "deep.png"), np.full((20, 30), 40_000, np.uint16))
    (folder / "empty.jpg").touch()
    whole = (folder / "a/000000000001.jpg").read_bytes()
    (folder / "truncated.jpg").write_bytes(whole[: len(whole) // 2])
    return folder


def test_detections_on_a_folder(detector, mixed, tmp_path, capsys):
    out = tmp_path / "out"
    code = main(
        [detector.config, detector.checkpoint, str(mixed), "missing.png", "--out", str(out),
         "--batch-size", "3", "--score-thr", "0.1", "--device", "cpu"]
    )  # fmt: skip
    assert code == 3
    printed = capsys.readouterr().out
    assert "13 images predicted, 4 inputs skipped" in printed
    for name, reason in [
        ("missing.png", "no such file or folder"),
        (mixed / "empty.jpg", "the file is empty"),
        (mixed / "truncated.jpg", ""),
        (mixed / "strip.png", "ValueError: the test pipeline cannot transform 3000 x 1 pixels ("),
    ]:
        assert f"skipped {name}: {reason}" in printed
    pictures = {path.relative_to(out).as_posix() for path in out.rglob("*.jpg")}
    assert {"pictures/a/000000000001.jpg", "pictures/b/000000000001.jpg"} < pictures
    assert len(pictures) == 13

    coco = COCO(out / "predictions.json")
    assert len(coco.imgs) == 13
    assert min(annotation["score"] for annotation in coco.anns.values()) >= 0.1
    predict = Predictor(detector.config, detector.checkpoint, "cpu")
    for image in coco.imgs.values():
        expected = predict(image["file_name"]).above(0.1)
        found = coco.loadAnns(coco.getAnnIds(imgIds=[image["id"]]))
        assert len(found) == len(expected)
        boxes = np.array([annotation["bbox"] for annotation in found]).reshape(-1, 4)
        corners = np.concatenate([boxes[:, :2], boxes[:, :2] + boxes[:, 2:]], axis=1)
        assert np.allclose(corners, expected.boxes, atol=0.05)
    assert any(annotation["area"] for annotation in coco.anns.values())


def test_segmentations_of_a_video_and_a_pattern(segmentor, coco, tmp_path, capsys):
    video = cv2.VideoWriter(str(tmp_path / "v.avi"), cv2.VideoWriter_fourcc(*"MJPG"), 5, (64, 48))
    for number in range(3):
        video.write(np.full((48, 64, 3), 60 * number, np.uint8))
    video.release()
    out = tmp_path / "out"
    pattern = f"{coco}/val2017/*1.jpg"
    code = main(
        [segmentor.config, segmentor.checkpoint, str(tmp_path / "v.avi"), pattern, "--out",
         str(out), "--batch-size", "2", "--no-pictures"]
    )  # fmt: skip
    assert code == 0
    assert "4 images predicted, 0 inputs skipped" in capsys.readouterr().out
    assert not (out / "pictures").exists()
    (frame,) = out.rglob("v.avi/000002.png")
    assert Image.open(frame).mode == "P"
    assert Image.open(frame).size == (64, 48)
    (still,) = out.rglob("000000000001.png")
    expected = Predictor(segmentor.config, segmentor.checkpoint)(f"{coco}/val2017/000000000001.jpg")
    assert np.array_equal(np.asarray(Image.open(still)), expected.labels)


def test_pictures_are_shrunk_to_the_longest_side(detector, coco, tmp_path):
    arguments = [detector.config, detector.checkpoint, f"{coco}/val2017", "--out", str(tmp_path)]
    main([*arguments, "--max-side", "30"])
    sides = [max(cv2.imread(str(path)).shape) for path in tmp_path.rglob("*.jpg")]
    assert sides == [30] * 4
    main([*arguments, "--max-side", "0"])
    sides = [max(cv2.imread(str(path)).shape) for path in tmp_path.rglob("*.jpg")]
    assert sides == [64] * 4


def test_pictures_of_an_earlier_run_are_no_inputs(detector, coco, tmp_path, capsys):
    shutil.copytree(coco / "val2017", tmp_path / "images")
    folder = str(tmp_path / "images")
    arguments = [detector.config, detector.checkpoint, folder, "--out", f"{folder}/out"]
    for _ in range(2):
        assert main(arguments) == 0
        assert "4 images predicted" in capsys.readouterr().out


@pytest.mark.parametrize("out", [".", "photographs"])
def test_results_may_lie_beside_or_among_the_images(detector, coco, tmp_path, monkeypatch, out):
    monkeypatch.chdir(tmp_path)
    shutil.copytree(coco / "val2017", "photographs")
    arguments = [detector.config, detector.checkpoint, "photographs", "**/*.jpg", "--out", out]
    for _ in range(2):
        assert main(arguments) == 0
        assert len(list(Path(out, "pictures").iterdir())) == 4
    assert len(list(Path("photographs").glob("*.jpg"))) == 4


def test_inputs_are_not_overwritten(detector, image_path, tmp_path, capsys):
    (tmp_path / "pictures").mkdir()
    photograph = str(shutil.copy(image_path, tmp_path / "pictures" / "a.jpg"))
    with pytest.raises(SystemExit, match="2"):
        main([detector.config, detector.checkpoint, photograph, "--out", str(tmp_path)])
    assert "pictures/a.jpg lies where results go and could be lost" in capsys.readouterr().err


def test_nothing_to_predict_is_exit_code_1(detector, tmp_path, capsys):
    (tmp_path / "empty.jpg").touch()
    arguments = [detector.config, detector.checkpoint, "--out", str(tmp_path / "out")]
    assert main([*arguments, str(tmp_path / "nowhere")]) == 1
    assert "0 images predicted, 1 inputs skipped" in capsys.readouterr().out
    assert main([*arguments, str(tmp_path / "empty.jpg")]) == 1


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ("--batch-size=0", "argument --batch-size: invalid number of at least 1 value: '0'"),
        ("--device=tpu9000", "--device tpu9000: "),
        ("--out=setup.cfg", "--out setup.cfg: File exists"),
        ("--max-side=x", "argument --max-side: invalid number of at least 0 value: 'x'"),
        ("--score-thr=1.5", "argument --score-thr: 1.5: scores go from 0 to 1"),
        ("--score-thr=nan", "argument --score-thr: nan: scores go from 0 to 1"),
        ("--device=meta", "--device meta: has no memory"),
        ("--out=/proc", "--out /proc: "),
        ("--cfg-options=model", "--cfg-options model: expected KEY=VALUE"),
    ],
)
def test_wrong_options_are_exit_code_2(option, message, capsys, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    Path("setup.cfg").touch()
    with pytest.raises(SystemExit) as stopped:
        main(["c.py", "c.pth", "a.jpg", "--out", "o", option])
    assert stopped.value.code == 2
    assert message in capsys.readouterr().err


def test_the_tool_itself(detector, mixed, tmp_path):
    process = subprocess.run(
        [sys.executable, "tools/predict.py", detector.config, detector.checkpoint,
         str(mixed / "grey.png"), str(mixed / "empty.jpg"), "--out", str(tmp_path / "out")],
        cwd=PROJECT, capture_output=True, text=True,
    )  # fmt: skip
    assert process.returncode == 3, process.stderr
    assert "1 images predicted, 1 inputs skipped" in process.stdout
    assert json.loads((tmp_path / "out/predictions.json").read_text())["images"][0]["width"] == 31


@pytest.mark.parametrize("dump", [False, True])
def test_evaluation_encodes_masks_in_boxes_where_only_coco_reads_them(
    detector, coco, tmp_path, monkeypatch, dump
):
    from mmdet.evaluation import CocoMetric

    kinds = set()
    process = CocoMetric.process

    def look(self, batch, samples):
        kinds.update(type(sample["pred_instances"]["masks"]) for sample in samples)
        process(self, batch, samples)

    monkeypatch.setattr(CocoMetric, "process", look)
    out = [f"--out={tmp_path}/out.pkl"] if dump else []
    evaluate(
        [detector.config, detector.checkpoint, "--data-root", str(coco), *out,
         "--work-dir", str(tmp_path / "work")]
    )  # fmt: skip
    assert kinds == ({torch.Tensor} if dump else {list})


# what finds no package of those names
_WITHOUT = """
import sys

class Missing:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {packages}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)

sys.meta_path.insert(0, Missing())
from xcit_dense.cli.predict import main
sys.exit(main())
"""


@pytest.mark.parametrize(
    ("model", "packages", "written"),
    [
        ("segmentor", ["mmdet", "pycocotools"], "labels, pictures"),
        ("detector", ["mmseg"], "pictures, predictions.json"),
    ],
)
def test_either_library_is_enough(request, image_path, tmp_path, model, packages, written):
    model = request.getfixturevalue(model)
    process = subprocess.run(
        [sys.executable, "-c", _WITHOUT.format(packages=packages), model.config, model.checkpoint,
         str(image_path), "--out", str(tmp_path / "out")],
        cwd=PROJECT, capture_output=True, text=True,
    )  # fmt: skip
    assert process.returncode == 0, process.stderr
    assert f"out: {written}" in process.stdout

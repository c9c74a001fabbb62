"""The command line of predictions: nothing but its user stops a run, and all it leaves is whole."""

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
from mmengine.config import Config
from PIL import Image
from pycocotools.coco import COCO

from xcit_dense.cli import predict
from xcit_dense.cli.main import run
from xcit_dense.predict import Predictor, outputs


@pytest.fixture
def mixed(tmp_path, coco):
    """Good images and bad ones, some of equal names."""
    folder = tmp_path / "mixed"
    for name in ["a", "b"]:
        shutil.copytree(coco / "val2017", folder / name)
    Image.new("L", (31, 40), 90).save(folder / "grey.png")
    Image.new("RGB", (1, 1)).save(folder / "pixel.png")
    Image.new("RGB", (3000, 1)).save(folder / "strip.png")
    (folder / "empty.jpg").touch()
    whole = (folder / "a/000000000001.jpg").read_bytes()
    (folder / "truncated.jpg").write_bytes(whole[: len(whole) // 2])
    return folder


@pytest.fixture
def few(tmp_path, coco):
    """Three images."""
    folder = tmp_path / "few"
    folder.mkdir()
    for path, name in zip(sorted((coco / "val2017").iterdir()), "abc", strict=False):
        shutil.copy(path, folder / f"{name}.jpg")
    return folder


def images_in(out):
    content = json.loads((out / "predictions.json").read_bytes())
    return [image["file_name"] for image in content["images"]]


def test_detections_on_a_folder(detector, mixed, tmp_path, capsys):
    out = tmp_path / "out"
    code = predict.main(
        [detector.config, detector.checkpoint, str(mixed), "missing.png", "--out", str(out),
         "--batch-size", "3", "--score-thr", "0.1", "--max-side", "30"]
    )  # fmt: skip
    assert code == 1
    printed = capsys.readouterr().out
    assert "10 images predicted, 4 inputs skipped" in printed
    for name in ["missing.png", "empty.jpg", "truncated.jpg", "strip.png"]:
        assert f"{name}: " in printed
    pictures = {path.relative_to(out).as_posix() for path in out.rglob("*.jpg")}
    assert {"pictures/a/000000000001.jpg", "pictures/b/000000000001.jpg"} < pictures
    assert len(pictures) == 10
    assert max(cv2.imread(f"{out}/pictures/a/000000000001.jpg").shape) == 30

    coco = COCO(out / "predictions.json")
    assert len(coco.imgs) == 10
    predictor = Predictor(detector.config, detector.checkpoint, "cpu")
    for image in coco.imgs.values():
        expected = predictor(mixed / image["file_name"]).above(0.1)
        assert len(coco.getAnnIds(imgIds=[image["id"]])) == len(expected)
    assert coco.anns


def test_segmentations_of_a_video_and_a_pattern(segmentor, coco, tmp_path, capsys):
    video = cv2.VideoWriter(str(tmp_path / "v.avi"), cv2.VideoWriter_fourcc(*"MJPG"), 5, (64, 48))
    for number in range(3):
        video.write(np.full((48, 64, 3), 60 * number, np.uint8))
    video.release()
    out = tmp_path / "out"
    code = predict.main(
        [segmentor.config, segmentor.checkpoint, str(tmp_path / "v.avi"),
         f"{coco}/val2017/*1.jpg", "--out", str(out), "--batch-size", "2", "--no-pictures", "--amp"]
    )  # fmt: skip
    assert code == 0
    printed = capsys.readouterr().out
    assert "4 images predicted, 0 inputs skipped" in printed
    assert f"written to {out}\n" in printed
    assert [path.name for path in out.iterdir()] == ["labels"]
    (frame,) = out.rglob("v.avi/000002.png")
    assert Image.open(frame).size == (64, 48)
    (still,) = out.rglob("000000000001.png")
    assert Image.open(still).mode == "P"


@pytest.mark.parametrize("out", [".", "few"])
def test_results_may_lie_beside_or_among_the_images(detector, few, monkeypatch, out):
    monkeypatch.chdir(few.parent)
    for _ in range(2):
        inputs = ["few", "**/*.jpg"]
        assert predict.main([detector.config, detector.checkpoint, *inputs, "--out", out]) == 0
        assert len(list(Path(out, "pictures").iterdir())) == 3
        assert images_in(Path(out)) == ["a.jpg", "b.jpg", "c.jpg"]
    assert len(list(few.glob("*.jpg"))) == 3


def test_numbers_of_annotations(detector, few, tmp_path, capsys):
    path, out = tmp_path / "annotations.json", tmp_path / "out"
    names = Config.fromfile(detector.config).metainfo.classes
    categories = [{"id": 9 - label, "name": name} for label, name in enumerate(names)]
    images = [{"id": name, "file_name": f"few/{name}.jpg"} for name in "bax"]
    path.write_text(json.dumps(dict(images=images, categories=categories)))
    arguments = [detector.config, detector.checkpoint, str(few), "--out", str(out)]
    arguments += ["--score-thr", "0", "--annotations", str(path)]
    assert predict.main(arguments) == 1
    assert "c.jpg: not in" in capsys.readouterr().out
    found = COCO(out / "predictions.json")
    assert list(found.imgs) == ["a", "b"]
    assert {a["category_id"] for a in found.anns.values()} <= {9 - n for n in range(len(names))}
    assert len(list((out / "pictures").iterdir())) == 3


@pytest.fixture
def at_third(monkeypatch):
    """Has something done when the third picture is written."""
    write = outputs.write_picture

    def make(action):
        def act_and_write(path, picture):
            if path.name == "c.jpg":
                action()
            write(path, picture)

        monkeypatch.setattr(outputs, "write_picture", act_and_write)

    return make


@pytest.fixture
def heeds_ctrl_c():
    """A shell lets what it starts in the background ignore Ctrl-C, these tests too."""
    previous = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, previous)


@pytest.mark.usefixtures("heeds_ctrl_c")
def test_a_stopped_run_keeps_what_was_predicted(detector, few, tmp_path, capsys, at_third):
    at_third(lambda: os.kill(os.getpid(), signal.SIGINT))
    out = tmp_path / "out"
    arguments = [detector.config, detector.checkpoint, str(few), "--out", str(out)]
    assert predict.main(arguments) == 1
    assert images_in(out) == ["a.jpg", "b.jpg"]
    assert "2 images predicted" in (printed := capsys.readouterr().out)
    assert "stopped" in printed


def test_a_picture_that_fails_is_skipped(detector, few, tmp_path, capsys, at_third):
    def fail():
        raise MemoryError("9 TB")

    at_third(fail)
    arguments = [detector.config, detector.checkpoint, str(few), "--out", str(tmp_path / "out")]
    assert predict.main(arguments) == 1
    assert "c.jpg: MemoryError: 9 TB" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ("--batch-size=0", "--batch-size 0"),
        ("--device=tpu9000", "--device tpu9000: "),
        ("--device=meta", "--device meta: "),
        ("--max-side=-1", "--max-side -1"),
        ("--score-thr=nan", "--score-thr nan: scores go from 0 to 1"),
    ],
)
def test_wrong_options_are_exit_code_2(detector, few, option, message, capsys, monkeypatch):
    monkeypatch.chdir(few)
    with pytest.raises(SystemExit, match="2"):
        predict.main([detector.config, detector.checkpoint, "a.jpg", "--out", "o", option])
    assert message in capsys.readouterr().err


PIPELINE = "test_dataloader.dataset.pipeline"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("model.typo=1", "model .*cannot be built.*typo"),
        (f"{PIPELINE}.1.type=Nope", "pipeline cannot be built.*Nope"),
        (f"{PIPELINE}.0.type=Resize", "LoadImageFromFile, not Resize"),
        ("test_dataloader=None", "a data set with a pipeline"),
    ],
)
def test_unusable_configs_end_with_one_line(
    detector, image_path, tmp_path, monkeypatch, change, message
):
    arguments = [detector.config, detector.checkpoint, str(image_path), "--out", str(tmp_path)]
    monkeypatch.setattr(sys, "argv", ["predict.py", *arguments, "--cfg-options", change])
    with pytest.raises(SystemExit, match=rf"^error: config .*{message}") as ended:
        run(predict.main)
    assert "\n" not in ended.value.code.strip()


def test_segmentors_do_without_mmdet(segmentor, image_path, tmp_path):
    script = (
        "import sys; sys.modules.update(mmdet=None, pycocotools=None);"
        "from xcit_dense.cli.predict import main; sys.exit(main())"
    )
    arguments = [segmentor.config, segmentor.checkpoint, str(image_path), "--out", str(tmp_path)]
    process = subprocess.run(
        [sys.executable, "-c", script, *arguments], capture_output=True, text=True
    )
    assert process.returncode == 0, process.stderr
    assert "1 images predicted" in process.stdout

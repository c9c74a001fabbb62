"""Nothing stops a run but its user, and then all that is written is whole."""

import errno
import json
import os
import signal
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from pycocotools.coco import COCO

from xcit_dense.cli import predict
from xcit_dense.errors import UserError
from xcit_dense.predict import Categories, Detections, SegmentationMap
from xcit_dense.predict.reading.decoding import Decoding
from xcit_dense.predict.writing import outputs

FOUND = Detections(np.array([[1, 1, 5, 5.0]]), np.array([1]), np.array([0.75]))


class Model:
    """Stands for a trained model: finds the same in every image, and counts them."""

    def __init__(self, prediction=FOUND):
        self.categories = Categories(("one", "two"), ((250, 0, 0), (0, 0, 250)))
        self.decoding = Decoding()
        self.prediction = prediction
        self.seen = 0

    def predict_batch(self, images):
        self.seen += len(images)
        self.look(self.seen)
        return [self.prediction] * len(images)

    def look(self, number):
        """What happens at an image."""


@pytest.fixture
def use(monkeypatch):
    def replace(model):
        monkeypatch.setattr(predict, "Predictor", lambda *_: model)
        return model

    return replace


@pytest.fixture
def model(use):
    return use(Model())


@pytest.fixture
def photographs(tmp_path):
    folder = tmp_path / "photographs"
    folder.mkdir()
    for name in "abcd":
        Image.new("RGB", (8, 8)).save(folder / f"{name}.jpg")
    return folder


@pytest.fixture
def arguments(tmp_path, photographs):
    (tmp_path / "config.py").touch()
    return [f"{tmp_path}/config.py", "c.pth", str(photographs), "--out", f"{tmp_path}/out"]


def images_in(folder):
    content = json.loads((folder / "out/predictions.json").read_text())
    return [Path(image["file_name"]).name for image in content["images"]]


@pytest.mark.parametrize(
    "error",
    [KeyError("scale"), IndexError("i"), TypeError("t"), AttributeError("a"), OSError(5, "e")],
    ids=lambda error: type(error).__name__,
)
@pytest.mark.parametrize("batch_size", ["1", "3"])
def test_an_image_that_fails_in_the_model_is_skipped(
    model, arguments, tmp_path, capsys, error, batch_size
):
    def predict_batch(images):
        if any(image.shape[0] == 9 for image in images):
            raise error
        return [FOUND] * len(images)

    model.predict_batch = predict_batch
    Image.new("RGB", (9, 9)).save(tmp_path / "photographs" / "bad.png")
    assert predict.main([*arguments, "--batch-size", batch_size]) == 3
    assert images_in(tmp_path) == ["a.jpg", "b.jpg", "c.jpg", "d.jpg"]
    assert (
        f"skipped {tmp_path}/photographs/bad.png: {type(error).__name__}: "
        in capsys.readouterr().out
    )


def test_where_all_fail_nothing_is_predicted(model, arguments, capsys):
    def fail(number):
        raise KeyError("scale_factor")

    model.look = fail
    assert predict.main(arguments) == 1
    assert "0 images predicted, 4 inputs skipped" in (printed := capsys.readouterr().out)
    assert printed.count("KeyError: scale_factor") == 4


@pytest.fixture
def heeds_ctrl_c():
    """A shell lets what it starts in the background ignore Ctrl-C, these tests too."""
    previous = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, previous)


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)], ids=["Ctrl-C", "SIGTERM"]
)
@pytest.mark.usefixtures("heeds_ctrl_c")
def test_a_stopped_run_keeps_what_was_predicted(model, arguments, tmp_path, capsys, number, code):
    def stop(image):
        if image == 3:
            os.kill(os.getpid(), number)

    before = signal.getsignal(signal.SIGTERM)
    model.look = stop
    try:
        ended = predict.main(arguments)
    except SystemExit as stopped:
        ended = stopped.code
    assert ended == code
    assert signal.getsignal(signal.SIGTERM) is before
    assert images_in(tmp_path) == ["a.jpg", "b.jpg"]
    assert "2 images predicted, 0 inputs skipped" in capsys.readouterr().out
    assert not list(tmp_path.rglob("*.partial-*"))


def test_a_full_disk_is_one_line_and_leaves_what_is_whole(
    model, arguments, tmp_path, capsys, monkeypatch
):
    write = outputs.write_picture

    def fill(path, picture):
        if path.name == "c.jpg":
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        write(path, picture)

    monkeypatch.setattr(outputs, "write_picture", fill)
    with pytest.raises(UserError, match=r"^--out .*out: No space left on device$"):
        predict.main(arguments)
    assert images_in(tmp_path) == ["a.jpg", "b.jpg"]
    assert sorted(path.name for path in (tmp_path / "out/pictures").iterdir()) == ["a.jpg", "b.jpg"]
    assert "2 images predicted" in capsys.readouterr().out


def test_a_run_without_predictions_keeps_earlier_ones(model, arguments, tmp_path):
    assert predict.main(arguments) == 0
    (tmp_path / "text.jpg").write_text("no image")
    arguments[2] = f"{tmp_path}/text.jpg"
    assert predict.main(arguments) == 1
    assert len(images_in(tmp_path)) == 4


def test_names_of_any_bytes_and_length(model, arguments, photographs, tmp_path, capsys):
    names = ["\udcff.jpg", "x" * 251 + ".jpg", "y" * 255, "ä" * 100 + ".jpg"]
    for name in names:
        (photographs / name).write_bytes((photographs / "a.jpg").read_bytes())
    (photographs / "v\udcff.mp4").touch()
    arguments.insert(3, str(photographs / names[2]))
    assert predict.main(arguments) == 3
    printed = capsys.readouterr().out
    assert "8 images predicted, 1 inputs skipped" in printed
    assert "v\\xff.mp4: OpenCV opens a video only if its name is valid UTF-8" in printed
    assert len(list((tmp_path / "out/pictures").iterdir())) == 8


def test_a_name_without_a_place_is_skipped(model, arguments, photographs, tmp_path, capsys):
    (tmp_path / "out/pictures/b.jpg").mkdir(parents=True)
    assert predict.main(arguments) == 3
    assert images_in(tmp_path) == ["a.jpg", "c.jpg", "d.jpg"]
    assert "b.jpg: its results cannot be written (Is a directory)" in capsys.readouterr().out


def test_only_what_the_run_wrote_is_listed(use, arguments, tmp_path, capsys):
    use(Model())
    predict.main(arguments)
    assert f"written to {tmp_path}/out: pictures, predictions.json\n" in capsys.readouterr().out
    use(Model(SegmentationMap(np.zeros((8, 8), int))))
    predict.main([*arguments, "--no-pictures"])
    assert f"written to {tmp_path}/out: labels\n" in capsys.readouterr().out


def test_numbers_of_annotations(model, arguments, tmp_path):
    path = tmp_path / "annotations.json"
    images = [{"id": 40 + number, "file_name": f"{name}.jpg"} for number, name in enumerate("dcba")]
    categories = [{"id": 7, "name": "two"}, {"id": 8, "name": "one"}]
    path.write_text(json.dumps(dict(images=images, categories=categories)))
    assert predict.main([*arguments, "--annotations", str(path)]) == 0
    found = COCO(tmp_path / "out/predictions.json")
    assert {image["file_name"][-5]: image["id"] for image in found.imgs.values()} == {
        "a": 43, "b": 42, "c": 41, "d": 40
    }  # fmt: skip
    assert {annotation["category_id"] for annotation in found.anns.values()} == {7}

    path.write_text(json.dumps(dict(images=images, categories=categories[:1])))
    with pytest.raises(UserError, match=r"^--annotations .* has no category 'one'"):
        predict.main([*arguments, "--annotations", str(path)])

"""Images are decoded as the first step of a test pipeline says."""

import cv2
import mmcv
import numpy as np
import pytest
from mmcv.transforms import LoadImageFromFile
from PIL import Image

from xcit_dense.predict import UnreadableImageError, read_image
from xcit_dense.predict.reading import image_files
from xcit_dense.predict.reading.decoding import Decoding, viewable

COLOR_TYPES = ["color", "color_ignore_orientation", "grayscale", "unchanged"]
RNG = np.random.default_rng(0)


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    """Grey, with alpha, 16 bits deep, and turned by EXIF."""
    folder = tmp_path_factory.mktemp("images")
    smooth = cv2.resize(RNG.integers(0, 256, (5, 6, 4), dtype=np.uint8), (31, 22))
    cv2.imwrite(str(folder / "alpha.png"), smooth)
    cv2.imwrite(str(folder / "grey.png"), smooth[..., 0])
    cv2.imwrite(str(folder / "deep.png"), smooth[..., :3].astype(np.uint16) * 251)
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(smooth[..., :3]).save(folder / "turned.jpg", exif=exif)
    return sorted(folder.iterdir())


@pytest.mark.parametrize("backend", ["cv2", "pillow"])
@pytest.mark.parametrize("color_type", COLOR_TYPES)
def test_pixels_are_those_of_mmcv(images, color_type, backend):
    step = dict(type="LoadImageFromFile", color_type=color_type, imdecode_backend=backend)
    load = LoadImageFromFile(color_type=color_type, imdecode_backend=backend)
    for path in images:
        expected = load({"img_path": str(path)})["img"]
        ours = read_image(path, Decoding.of_loader(step))
        assert ours.dtype == expected.dtype
        assert np.array_equal(ours, expected)
        shown = viewable(ours)
        assert (shown.dtype, shown.shape) == (np.uint8, (*expected.shape[:2], 3))


def test_by_default_images_are_in_blue_green_red(images):
    for path in images:
        assert np.array_equal(read_image(path), mmcv.imread(str(path), backend="cv2"))


def test_frames_get_the_channels_that_images_have():
    frame = RNG.integers(0, 256, (4, 5, 3), dtype=np.uint8)
    grey = Decoding("grayscale").convert(frame)
    assert np.array_equal(grey, cv2.cvtColor(frame, cv2.COLOR_BGR2GRAY))
    assert Decoding("color").convert(frame) is frame


def test_what_is_drawn_on():
    grey = np.array([[7]], np.uint8)
    assert viewable(grey).tolist() == [[[7, 7, 7]]]
    assert viewable(np.array([[[1, 2, 3, 4]]], np.uint8)).tolist() == [[[1, 2, 3]]]
    assert viewable(np.array([[[5, 200]]], np.uint8)).tolist() == [[[5, 5, 5]]]
    assert viewable(np.array([[0x1234]], np.uint16)).tolist() == [[[0x12] * 3]]
    assert viewable(np.array([[-1.0, 1.0]])).tolist() == [[[0] * 3, [255] * 3]]


@pytest.mark.parametrize(
    ("step", "message"),
    [
        (dict(color_type="sepia"), "color_type='sepia': allowed are color, color_ignore"),
        (dict(imdecode_backend="turbojpeg"), "imdecode_backend='turbojpeg': .* cv2, pillow only"),
        (dict(imdecode_backend="tifffile"), "imdecode_backend='tifffile': .* cv2, pillow only"),
    ],
)
def test_what_cannot_be_done_is_an_error(step, message):
    with pytest.raises(ValueError, match=message):
        Decoding.of_loader(step)


@pytest.mark.parametrize("color_type", ["color", "grayscale", "unchanged"])
def test_pixels_of_other_kinds_are_refused(color_type):
    decoding = Decoding(color_type)
    decoding.check(np.zeros((2, 3, 3), np.uint8))
    for pixels in [np.zeros(3, np.uint8), np.zeros((2, 2, 5), np.uint8), np.zeros((0, 2, 3))]:
        with pytest.raises(ValueError, match=r"expected uint8 \(H, W, 3\)"):
            decoding.check(pixels)


@pytest.mark.parametrize("error", [RuntimeError("bad decoder"), KeyError("x"), MemoryError()])
def test_whatever_a_decoder_raises_is_a_reason(images, monkeypatch, error):
    def fail(*_):
        raise error

    monkeypatch.setattr(image_files.Image, "open", fail)
    with pytest.raises(UnreadableImageError, match=f"^{type(error).__name__}: "):
        read_image(images[0])

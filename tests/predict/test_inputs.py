"""Files, folders and patterns become images, each with a name of its own, or a reason."""

import io
import os
import re

import cv2
import numpy as np
import pytest
from mmcv.transforms import LoadImageFromFile
from PIL import Image

from xcit_dense.errors import UserError
from xcit_dense.predict.inputs import InputImage, find_files, output_names, read_image, read_inputs

RNG = np.random.default_rng(0)
SMOOTH = Image.fromarray(cv2.resize(RNG.integers(0, 256, (5, 6, 3), dtype=np.uint8), (60, 40)))


def make(path):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()
    return path


def found(folder, *inputs):
    results = [folder / "out/pictures", folder / "out/labels"]
    files, skipped = find_files([str(folder / name) for name in inputs], results)
    return [file.relative_to(folder).as_posix() for file in files], skipped


def save_video(path, frames):
    video = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"MJPG"), 5, (64, 48))
    for number in range(frames):
        noise = RNG.integers(0, 20, (48, 64, 3))
        video.write((40 * number % 200 + noise).astype(np.uint8))
    video.release()
    return path


@pytest.mark.parametrize(
    ("inputs", "expected"),
    [
        (["."], ["a.JPG", "b.png", "v.avi", "x/1.png", "x/deep/2.tif", "x/deep/er/1.png"]),
        (["x/deep/2.tif", "**/1.png", "x"], ["x/deep/2.tif", "x/1.png", "x/deep/er/1.png"]),
        (["x/../b.png", "b.png"], ["b.png"]),
    ],
)
def test_files_are_found_once_without_earlier_results(tmp_path, inputs, expected):
    for name in ["b.png", "a.JPG", "x/deep/2.tif", "x/deep/er/1.png", "x/1.png", "v.avi"]:
        make(tmp_path / name)
    for name in ["notes.txt", "out/pictures/a.jpg", "out/labels/deep/1.png"]:
        make(tmp_path / name)
    files, skipped = found(tmp_path, *inputs)
    assert sorted(files) == sorted(expected)
    assert not skipped


def test_a_name_that_looks_like_a_pattern_and_links_that_lead_back(tmp_path):
    make(tmp_path / "in/a[1].png")
    make(tmp_path / "elsewhere/b.png")
    os.symlink(tmp_path / "in", tmp_path / "in/self")
    os.symlink(tmp_path / "elsewhere", tmp_path / "in/linked")
    assert found(tmp_path, "in/a[1].png") == (["in/a[1].png"], [])
    assert found(tmp_path, "in") == (["in/a[1].png", "in/linked/b.png"], [])


def test_inputs_that_name_nothing_are_told(tmp_path):
    (tmp_path / "empty").mkdir()
    make(tmp_path / "out/labels/a.png")  # not to be written over
    names = ["no.png", "*.gif", "empty", "out/labels/a.png", "out/labels"]
    files, skipped = found(tmp_path, *names)
    assert not files
    for name, error in zip(names, skipped, strict=True):
        assert f"{tmp_path / name}: no images" in str(error)


def test_outputs_have_names_of_their_own(tmp_path):
    """Case does not count: some file systems take A for a."""
    expected = {
        "x/a.png": "x/a",
        "y/a.png": "y/a",
        "a.png": "a",
        "a.jpg": "a.jpg",
        "A.jpg": "A.jpg_2",
        "a.jpg.png": "a.jpg.png",
        "b.x.png": "b.x",
        "v.mp4": "v.mp4",
    }
    files = [tmp_path / name for name in expected]
    assert list(output_names(files).values()) == list(expected.values())


def test_frames_and_images_come_in_order_and_damage_is_told(tmp_path):
    video = save_video(tmp_path / "v.avi", frames=4)
    whole = video.read_bytes()
    files = [video, tmp_path / "a.png", make(tmp_path / "b.png"), make(tmp_path / "no.mp4")]
    files.append(tmp_path / "cut.avi")
    files[-1].write_bytes(whole[: len(whole) // 2])
    SMOOTH.save(files[1])
    items = list(read_inputs(files))
    assert [item.name for item in items[:5]] == [f"v.avi/{n:06d}" for n in range(1, 5)] + ["a"]
    assert items[1].source == f"{video}#2"
    brightness = [item.pixels.mean() for item in items[:4]]
    assert brightness == pytest.approx([10, 50, 90, 130], abs=5)
    skipped = [str(item) for item in items if isinstance(item, UserError)]
    for file in files[2:]:
        assert any(f"{file}: " in each for each in skipped)
    assert len([item for item in items if isinstance(item, InputImage)]) < 5 + 4


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGBA", "CMYK"])
def test_other_kinds_of_pixels_become_blue_green_red(tmp_path, mode):
    converted = SMOOTH.convert(mode)
    if mode == "RGBA":
        converted.putalpha(0)
    path = tmp_path / ("image.tif" if mode == "CMYK" else "image.png")
    converted.save(path)
    expected = np.asarray(converted.convert("RGB"))[..., ::-1]
    assert np.abs(read_image(path) - expected.astype(int)).mean() < 3


def test_16_bits_and_rotations_of_exif(tmp_path):
    values = RNG.integers(0, 65536, (9, 7, 3), dtype=np.uint16)
    cv2.imwrite(str(tmp_path / "deep.png"), values)
    read = read_image(tmp_path / "deep.png")
    assert np.abs(read.astype(int) - values // 256).max() <= 1  # some versions round
    (error,) = read_inputs([tmp_path / "deep.png"])
    assert re.search(r"deep\.png: .* more than 8 bits.* --stretch", str(error))
    deep = LoadImageFromFile(color_type="unchanged")
    (whole,) = read_inputs([tmp_path / "deep.png"], deep)
    np.testing.assert_array_equal(whole.pixels, values)
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by 90 degrees clockwise
    SMOOTH.save(tmp_path / "turned.jpg", exif=exif)
    SMOOTH.save(tmp_path / "plain.jpg")
    turned = np.rot90(read_image(tmp_path / "plain.jpg"), -1)
    assert np.array_equal(read_image(tmp_path / "turned.jpg"), turned)


@pytest.mark.parametrize("color_type", ["grayscale", "unchanged", "color_ignore_orientation"])
@pytest.mark.parametrize("backend", ["cv2", "pillow"])
def test_a_pipeline_chooses_channels_and_library(tmp_path, color_type, backend):
    SMOOTH.convert("RGBA").save(tmp_path / "a.png")
    load = LoadImageFromFile(color_type=color_type, imdecode_backend=backend)
    expected = load({"img_path": str(tmp_path / "a.png")})["img"]
    assert np.array_equal(read_image(tmp_path / "a.png", load), expected)
    image = InputImage(tmp_path / "a.png", "a.png", "a", expected)
    assert np.array_equal(image.background, read_image(tmp_path / "a.png"))


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".tif"])
@pytest.mark.parametrize("part", [0.3, 0.95])
def test_truncated_files_are_refused(tmp_path, suffix, part):
    whole = io.BytesIO()
    noise = RNG.integers(0, 256, (64, 64, 3), dtype=np.uint8)
    Image.fromarray(noise).save(whole, {".jpg": "JPEG", ".png": "PNG", ".tif": "TIFF"}[suffix])
    path = tmp_path / f"image{suffix}"
    path.write_bytes(whole.getvalue()[: int(whole.tell() * part)])
    with pytest.raises(UserError):
        read_image(path)


def test_what_is_no_image_is_refused(tmp_path, monkeypatch):
    make(tmp_path / "empty.jpg")
    (tmp_path / "text.jpg").write_text("hello")
    Image.new("F", (4, 4)).save(tmp_path / "float.tif")
    for name in ["empty.jpg", "text.jpg", "float.tif", "none.jpg", "."]:
        with pytest.raises(UserError, match=re.escape(f"{tmp_path / name}: ")):
            read_image(tmp_path / name)
    with pytest.raises(UserError, match=r"float\.tif: its values .* --stretch"):
        read_image(tmp_path / "float.tif")
    SMOOTH.save(tmp_path / "large.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
    with pytest.raises(UserError, match=r"--mode auto \(DecompressionBomb"):
        read_image(tmp_path / "large.png")


def test_formats_are_a_closed_list_whatever_a_file_is_called(tmp_path):
    """Pillow hands EPS over to Ghostscript; MPO is what some cameras write."""
    path = tmp_path / "photo.jpg"
    for form in ["BMP", "GIF", "JPEG2000", "MPO", "PPM", "TIFF", "WEBP"]:
        more = {"save_all": True, "append_images": [SMOOTH]} if form == "MPO" else {}
        SMOOTH.save(path, form, **more)
        assert read_image(path).shape == (40, 60, 3)
    for form in ["EPS", "TGA"]:
        SMOOTH.save(path, form)
        with pytest.raises(UserError, match=r"photo\.jpg: .* \.jpg"):
            read_image(path)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="the system has no named pipes")
def test_a_pipe_is_no_image(tmp_path):
    os.mkfifo(tmp_path / "a.png")
    with pytest.raises(UserError, match=r"a\.png: is no file"):
        read_image(tmp_path / "a.png")


def test_a_pattern_through_a_link_that_leads_back_finds_each_file_once(tmp_path):
    (tmp_path / "a.png").touch()
    (tmp_path / "loop").symlink_to(tmp_path)
    files, _ = find_files([f"{tmp_path}/**/*.png"])
    assert files == [tmp_path / "a.png"]

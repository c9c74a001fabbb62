"""Files and videos become images with names of their own."""

import cv2
import numpy as np
import pytest

from xcit_dense.predict.reading.decoding import Decoding
from xcit_dense.predict.reading.input_files import Skipped
from xcit_dense.predict.reading.inputs import InputImage, count_images, read_inputs
from xcit_dense.predict.reading.output_names import output_names


def save(path, size=8):
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), np.full((size, size, 3), 99, np.uint8))
    return path


def save_video(path, frames=5, noise=0):
    video = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"MJPG"), 5, (64, 48))
    rng = np.random.default_rng(0)
    for number in range(frames):
        video.write((40 * number % 256 + rng.integers(0, noise + 1, (48, 64, 3))).astype(np.uint8))
    video.release()
    return path


def names(files):
    return [item.name for item in read_inputs(files)]


def test_equal_names_from_different_folders(tmp_path):
    files = [save(tmp_path / name) for name in ["x/a.png", "y/a.png"]]
    assert names(files) == ["x/a", "y/a"]


def test_of_equal_names_the_later_one_keeps_its_suffix(tmp_path):
    """Case does not count: some file systems take A for a."""
    files = ["a.png", "a.jpg", "A.jpg", "a.jpg.png", "b.x.png", "c.jpg"]
    expected = ["a", "a.jpg", "A.jpg_2", "a.jpg.png", "b.x", "c"]
    assert list(output_names([tmp_path / name for name in files]).values()) == expected


def test_names_leave_room_for_a_suffix(tmp_path):
    long = ["ä" * 125 + ".jpg", "ä" * 125 + ".png", "b" * 255, "c" * 251 + ".mp4"]
    names = output_names([tmp_path / name for name in long]).values()
    assert all(len(f"{name}.json".encode()) <= 255 for name in names)
    assert len(set(names)) == len(long)


def test_frames_of_a_video_stand_in_a_folder(tmp_path):
    files = [save_video(tmp_path / "v.avi"), save(tmp_path / "v" / "000001.png")]
    items = list(read_inputs(files))
    assert [item.name for item in items[:2]] == ["v.avi/000001", "v.avi/000002"]
    assert items[1].source == f"{tmp_path}/v.avi#2"
    assert len({item.name for item in items}) == count_images(files) == 6
    brightness = [item.pixels.mean() for item in items[:5]]
    assert brightness == pytest.approx([0, 40, 80, 120, 160], abs=4)


def test_damaged_videos_are_skipped_with_the_frames_that_are_lost(tmp_path):
    (tmp_path / "text.mp4").write_text("no video")
    whole = save_video(tmp_path / "v.avi", frames=20, noise=200).read_bytes()
    (tmp_path / "cut.avi").write_bytes(whole[: len(whole) // 2])
    (text,) = read_inputs([tmp_path / "text.mp4"])
    assert text == Skipped(f"{tmp_path}/text.mp4", "no video, or of an unknown format")
    *frames, last = read_inputs([tmp_path / "cut.avi"])
    if isinstance(last, Skipped):  # where OpenCV knows how many there should be
        assert last.reason.startswith(f"it declares 20 frames, and {len(frames)} can be decoded")
    else:
        assert len(frames) < 20


def test_unreadable_images_are_skipped_in_their_place(tmp_path):
    files = [save(tmp_path / "a.png"), tmp_path / "b.png", save(tmp_path / "c.png")]
    files[1].touch()
    kinds = [type(item) for item in read_inputs(files)]
    assert kinds == [InputImage, Skipped, InputImage]


def test_videos_whose_names_opencv_cannot_take_are_skipped(tmp_path):
    """It would end the process."""
    named = save_video(tmp_path / "v.avi").rename(tmp_path / "v\udcff.avi")
    assert list(read_inputs([named])) == [
        Skipped(str(named), "OpenCV opens a video only if its name is valid UTF-8")
    ]
    assert count_images([named]) == 1


def test_what_is_drawn_on_has_three_channels(tmp_path):
    path = save(tmp_path / "a.png")
    (image,) = read_inputs([path], Decoding("grayscale"))
    assert image.pixels.shape == image.size == (8, 8)
    assert image.background.shape == (8, 8, 3)

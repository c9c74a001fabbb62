"""Files, folders, patterns and videos become images with names of their own."""

import cv2
import numpy as np
import pytest

from xcit_dense.openmmlab.prediction.inputs import (
    InputImage,
    Skipped,
    count_images,
    find_files,
    read_inputs,
)


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


def found(tmp_path, *inputs, out="out"):
    files, skipped = find_files([str(name) for name in inputs], tmp_path / out)
    return [file.relative_to(tmp_path).as_posix() for file in files], skipped


def names(files):
    return [item.name for item in read_inputs(files)]


def test_folders_are_searched_for_images_and_videos(tmp_path):
    for name in ["b.png", "a.JPG", "deep/er/c.tif", "out/pictures/a.jpg"]:
        save(tmp_path / name.replace("JPG", "jpg")).rename(tmp_path / name)
    save_video(tmp_path / "v.avi")
    (tmp_path / "notes.txt").write_text("no image")
    assert found(tmp_path, tmp_path) == (["a.JPG", "b.png", "deep/er/c.tif", "v.avi"], [])


def test_patterns_and_files_name_each_file_once(tmp_path):
    for name in ["x/1.png", "x/2.png", "y/1.png"]:
        save(tmp_path / name)
    inputs = [tmp_path / "x/2.png", tmp_path / "*/1.png", tmp_path / "x", tmp_path / "y/../x"]
    assert found(tmp_path, *inputs) == (["x/2.png", "x/1.png", "y/1.png"], [])


def test_a_file_whose_name_looks_like_a_pattern(tmp_path):
    save(tmp_path / "a[1].png")
    assert found(tmp_path, tmp_path / "a[1].png") == (["a[1].png"], [])


def test_inputs_that_name_nothing_are_told(tmp_path):
    (tmp_path / "empty").mkdir()
    files, skipped = found(tmp_path, tmp_path / "no.png", tmp_path / "*.gif", tmp_path / "empty")
    assert not files
    assert [item.reason for item in skipped] == [
        "no such file or folder",
        "no such file or folder",
        "no images or videos in this folder",
    ]


def test_equal_names_from_different_folders(tmp_path):
    files = [save(tmp_path / name) for name in ["x/a.png", "y/a.png"]]
    assert names(files) == ["x/a", "y/a"]


def test_equal_names_but_for_the_suffix_or_the_case(tmp_path):
    files = [save(tmp_path / name) for name in ["a.png", "a.jpg", "A.png", "a_2.png", "b.x.png"]]
    got = names(files)
    assert got[0] == "a"
    assert got[4] == "b.x"
    assert len({name.casefold() for name in got}) == len(files)


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
        assert last.reason == f"frames {len(frames) + 1} to 20 cannot be decoded"
    else:
        assert len(frames) < 20


def test_unreadable_images_are_skipped_in_their_place(tmp_path):
    files = [save(tmp_path / "a.png"), tmp_path / "b.png", save(tmp_path / "c.png")]
    files[1].touch()
    kinds = [type(item) for item in read_inputs(files)]
    assert kinds == [InputImage, Skipped, InputImage]

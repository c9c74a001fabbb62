"""Files, folders and patterns name files, each once."""

import os

from xcit_dense.predict.reading.input_files import Skipped, find_files


def make(path):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()
    return path


def found(tmp_path, *inputs):
    results = [tmp_path / "out" / name for name in ("pictures", "labels")]
    files, skipped = find_files([str(name) for name in inputs], results)
    return [file.relative_to(tmp_path).as_posix() for file in files], skipped


def test_folders_are_searched_for_images_and_videos(tmp_path):
    for name in ["b.png", "a.JPG", "deep/er/c.tif", "v.avi", "notes.txt"]:
        make(tmp_path / name)
    assert found(tmp_path, tmp_path) == (["a.JPG", "b.png", "deep/er/c.tif", "v.avi"], [])


def test_patterns_and_files_name_each_file_once(tmp_path):
    for name in ["x/1.png", "x/2.png", "y/1.png"]:
        make(tmp_path / name)
    inputs = [tmp_path / "x/2.png", tmp_path / "*/1.png", tmp_path / "x", tmp_path / "y/../x"]
    assert found(tmp_path, *inputs) == (["x/2.png", "x/1.png", "y/1.png"], [])


def test_a_file_whose_name_looks_like_a_pattern(tmp_path):
    make(tmp_path / "a[1].png")
    assert found(tmp_path, tmp_path / "a[1].png") == (["a[1].png"], [])


def test_inputs_that_name_nothing_are_told(tmp_path):
    (tmp_path / "empty").mkdir()
    files, skipped = found(tmp_path, tmp_path / "no.png", tmp_path / "*.gif", tmp_path / "empty")
    assert not files
    assert [item.reason for item in skipped] == [
        "no such file or folder",
        "no such file or folder",
        "no images or videos in this folder, earlier results aside",
    ]


def test_only_earlier_results_are_left_out_of_folders_and_patterns(tmp_path):
    for name in [
        "out/a.png",
        "out/pictures/a.jpg",
        "out/labels/deep/a.png",
        "out/x/pictures/b.png",
    ]:
        make(tmp_path / name)
    expected = ["out/a.png", "out/x/pictures/b.png"]
    assert found(tmp_path, tmp_path / "out")[0] == expected
    assert found(tmp_path, tmp_path / "**/*.*g")[0] == expected
    assert found(tmp_path, tmp_path / "out/pictures/a.jpg")[0] == ["out/pictures/a.jpg"]


def test_links_to_folders_are_followed_without_end(tmp_path):
    make(tmp_path / "elsewhere/a.png")
    make(tmp_path / "in/b.png")
    make(tmp_path / "in/z/c.png")
    for link, target in [("d", "../elsewhere"), ("self", "."), ("up", ".."), ("a", "z")]:
        os.symlink(target, tmp_path / "in" / link)
    files, skipped = found(tmp_path, tmp_path / "in")
    assert files == ["in/b.png", "in/z/c.png", "in/d/a.png"]
    assert not skipped


def test_links_that_lead_nowhere_are_told(tmp_path):
    make(tmp_path / "in/b.png")
    for name in ["a.png", "photographs", "notes.txt"]:
        os.symlink("nothing", tmp_path / "in" / name)
    files, skipped = found(tmp_path, tmp_path / "in")
    assert files == ["in/b.png"]
    reason = "a link that leads nowhere"
    assert skipped == [
        Skipped(f"{tmp_path}/in/{name}", reason) for name in ["a.png", "photographs"]
    ]


def test_folders_that_cannot_be_searched_are_told(tmp_path, monkeypatch):
    make(tmp_path / "in/closed/a.png")
    make(tmp_path / "in/open/b.png")
    listed = os.listdir

    def list_unless_closed(folder):
        if folder.name == "closed":
            raise PermissionError(13, "Permission denied")
        return listed(folder)

    monkeypatch.setattr(os, "listdir", list_unless_closed)
    files, skipped = found(tmp_path, tmp_path / "in")
    assert files == ["in/open/b.png"]
    assert skipped == [Skipped(f"{tmp_path}/in/closed", "cannot be searched (Permission denied)")]


def test_what_is_no_file_is_told(tmp_path):
    (tmp_path / "in").mkdir()
    os.mkfifo(tmp_path / "in" / "pipe.jpg")
    _, (skipped,) = found(tmp_path, tmp_path / "in")
    assert skipped == Skipped(f"{tmp_path}/in/pipe.jpg", "no file that can be read")

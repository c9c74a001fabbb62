"""Files are there whole or not at all, at whatever step their writer fails."""

import errno
import io
import os
import resource

import pytest
import torch

from xcit_dense.atomic_files import StoppableFile, write_atomically


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def write_new(file):
    file.write(b"new")


def write_half(file):
    file.write(b"half of the new")
    raise OSError(errno.ENOSPC, "No space left on device")


def test_a_file_in_a_folder_that_is_not_there_yet(tmp_path):
    write_atomically(tmp_path / "a/b/file", write_new)
    assert (tmp_path / "a/b/file").read_bytes() == b"new"
    assert names(tmp_path / "a/b") == ["file"]


@pytest.mark.parametrize("step", ["write", "fsync", "replace"])
def test_whatever_step_fails_the_old_content_stays_and_nothing_else(step, tmp_path, monkeypatch):
    def fail(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    (tmp_path / "file").write_bytes(b"old")
    if step != "write":
        monkeypatch.setattr(os, step, fail)
    with pytest.raises(OSError, match="No space left"):
        write_atomically(tmp_path / "file", write_half if step == "write" else write_new)
    assert (tmp_path / "file").read_bytes() == b"old"
    assert names(tmp_path) == ["file"]


@pytest.mark.parametrize(
    "write", [lambda file: file.write(bytes(9999)), lambda file: torch.save(torch.ones(9999), file)]
)
def test_what_the_system_refuses_is_named(write, tmp_path):
    """As a full disk does, while C code writes too."""
    (tmp_path / "file").write_bytes(b"old")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, before[1]))
    try:
        with pytest.raises(OSError, match=r"too large.*/file'$"):
            write_atomically(tmp_path / "file", write)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert (tmp_path / "file").read_bytes() == b"old"
    assert names(tmp_path) == ["file"]


def test_the_old_name_has_the_old_content_until_the_new_one_is_on_the_disk(tmp_path, monkeypatch):
    seen = []
    fsync, replace = os.fsync, os.replace

    def see(step, act):
        def record(*arguments):
            seen.append((step, (tmp_path / "file").read_bytes()))
            act(*arguments)

        return record

    (tmp_path / "file").write_bytes(b"old")
    monkeypatch.setattr(os, "fsync", see("fsync", fsync))
    monkeypatch.setattr(os, "replace", see("replace", replace))
    write_atomically(tmp_path / "file", write_new)
    assert seen == [("fsync", b"old"), ("replace", b"old")]
    assert (tmp_path / "file").read_bytes() == b"new"


def test_what_a_killed_writer_left_is_written_over(tmp_path, monkeypatch):
    with monkeypatch.context() as patch, pytest.raises(OSError, match="No space left"):
        patch.setattr("pathlib.Path.unlink", lambda *_, **__: None)  # a killed process tidies not
        write_atomically(tmp_path / "file", write_half)
    (left,) = names(tmp_path)
    assert left != "file"
    write_atomically(tmp_path / "file", write_new)
    assert names(tmp_path) == ["file"]
    assert (tmp_path / "file").read_bytes() == b"new"


def test_a_link_stays_a_link(tmp_path):
    (tmp_path / "file").write_bytes(b"old")
    (tmp_path / "link").symlink_to(tmp_path / "file")
    write_atomically(tmp_path / "link", write_new)
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "file").read_bytes() == b"new"


def test_what_is_no_plain_file_is_not_replaced(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path, tmp_path / "pipe"):
        with pytest.raises(FileExistsError, match=str(path)):
            write_atomically(path, write_new)


def test_a_ctrl_c_while_torch_saves_aborts_nothing():
    file = io.BytesIO()
    writer = torch.serialization._open_zipfile_writer_buffer(StoppableFile(file))
    file.close()
    del writer  # torch ends the archive here; into the file itself that would abort the process

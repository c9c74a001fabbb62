"""Files are there whole or not at all, also when their writer is killed."""

import errno
import os
import random
import signal
import stat
import time

import pytest

from xcit_dense.atomic_files import write_atomically

SIZE = 2**18  # bytes


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def forked(work):
    """Run a function in a child process that never returns; its process number once it runs."""
    has_begun, begun = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.write(begun, b"1")
            work()
        finally:
            os._exit(1)
    os.close(begun)
    os.read(has_begun, 1)
    os.close(has_begun)
    return child


def test_writes_into_folders_that_are_not_there_yet(tmp_path):
    write_atomically(tmp_path / "a/b/file", lambda file: file.write(b"new"))
    assert (tmp_path / "a/b/file").read_bytes() == b"new"
    assert names(tmp_path / "a/b") == ["file"]


def test_a_failing_writer_leaves_the_old_content_and_nothing_else(tmp_path):
    (tmp_path / "file").write_bytes(b"old")

    def fail(file):
        file.write(b"half of the new")
        raise RuntimeError("no more")

    with pytest.raises(RuntimeError, match="no more"):
        write_atomically(tmp_path / "file", fail)
    assert (tmp_path / "file").read_bytes() == b"old"
    assert names(tmp_path) == ["file"]


def test_a_full_disk_leaves_the_old_content_and_nothing_else(tmp_path, monkeypatch):
    (tmp_path / "file").write_bytes(b"old")

    def full(descriptor):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        write_atomically(tmp_path / "file", lambda file: file.write(b"new"))
    assert (tmp_path / "file").read_bytes() == b"old"
    assert names(tmp_path) == ["file"]


def test_the_content_is_on_the_disk_before_the_name(tmp_path, monkeypatch):
    order = []
    fsync, replace = os.fsync, os.replace

    def recording_fsync(descriptor):
        order.append("folder" if stat.S_ISDIR(os.fstat(descriptor).st_mode) else "content")
        fsync(descriptor)

    def recording_replace(*paths):
        order.append("name")
        replace(*paths)

    monkeypatch.setattr(os, "fsync", recording_fsync)
    monkeypatch.setattr(os, "replace", recording_replace)
    write_atomically(tmp_path / "file", lambda file: file.write(b"new"))
    assert order == ["content", "name", "folder"]


def test_permission_bits_are_those_that_open_would_give(tmp_path):
    (tmp_path / "opened").write_bytes(b"")
    write_atomically(tmp_path / "fresh", lambda file: file.write(b"new"))
    assert (tmp_path / "fresh").stat().st_mode == (tmp_path / "opened").stat().st_mode
    (tmp_path / "fresh").chmod(0o640)
    write_atomically(tmp_path / "fresh", lambda file: file.write(b"newer"))
    assert stat.S_IMODE((tmp_path / "fresh").stat().st_mode) == 0o640


def test_a_link_stays_a_link(tmp_path):
    (tmp_path / "file").write_bytes(b"old")
    (tmp_path / "link").symlink_to(tmp_path / "file")
    write_atomically(tmp_path / "link", lambda file: file.write(b"new"))
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "file").read_bytes() == b"new"


def test_what_is_no_plain_file_is_not_replaced(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path, tmp_path / "pipe"):
        with pytest.raises(FileExistsError, match="is there and no plain file"):
            write_atomically(path, lambda file: file.write(b"new"))


def test_leftovers_of_dead_writers_are_removed_and_those_of_living_ones_are_not(tmp_path):
    (tmp_path / ".old.partial-0123abcd").write_bytes(b"of a killed writer")
    (tmp_path / ".partial-notes").write_bytes(b"of another program")

    def write_another_meanwhile(file):
        file.write(b"begun")
        write_atomically(tmp_path / "second", lambda other: other.write(b"2"))

    write_atomically(tmp_path / "first", write_another_meanwhile)
    assert names(tmp_path) == [".partial-notes", "first", "second"]
    assert (tmp_path / "first").read_bytes() == b"begun"


def test_a_writer_killed_at_any_moment_leaves_a_whole_file(tmp_path):
    """With a plain write nearly every kill leaves an empty or a short file."""
    path = tmp_path / "file"
    moments = random.Random(0)

    def write_for_ever():
        number = path.read_bytes()[0] if path.exists() else 0
        while True:
            number = (number + 1) % 256
            pieces = [bytes([number]) * (SIZE // 16)] * 16
            write_atomically(path, lambda file, pieces=pieces: file.writelines(pieces))

    begin = time.monotonic()
    for _ in range(5):
        write_atomically(tmp_path / "trial", lambda file: file.write(bytes(SIZE)))
    seconds_of_a_write = (time.monotonic() - begin) / 5
    seen = set()
    for _ in range(110):
        child = forked(write_for_ever)
        time.sleep(moments.uniform(0, 3 * seconds_of_a_write))
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        if path.exists():
            content = path.read_bytes()
            assert len(content) == SIZE
            assert set(content) == {content[0]}
            seen.add(content[0])
    assert len(seen) > 10  # the kills came while much was written
    write_atomically(path, lambda file: file.write(b"the last"))
    assert names(tmp_path) == ["file", "trial"]

"""Resuming goes on from the newest checkpoint that loads."""

import pytest
import torch

from xcit_dense.errors import UserError
from xcit_dense.mm.resuming import (
    check_resumable,
    newest_resumable,
    recorded_checkpoint,
)


def save(path):
    torch.save({"meta": {"epoch": 1}, "state_dict": {"w": torch.ones(9)}, "message_hub": {}}, path)
    return str(path)


def record(work_dir, path):
    (work_dir / "last_checkpoint").write_text(str(path))


def damage(path):
    with open(path, "r+b") as file:
        file.truncate(100)


def test_a_new_work_dir_has_none(tmp_path):
    assert recorded_checkpoint(tmp_path) is None
    assert newest_resumable(tmp_path) == (None, [])
    assert newest_resumable(tmp_path / "nowhere") == (None, [])


def test_the_recorded_one_is_taken_even_if_others_have_higher_numbers(tmp_path):
    recorded = save(tmp_path / "epoch_2.pth")
    save(tmp_path / "epoch_3.pth")
    save(tmp_path / "iter_500.pth")
    record(tmp_path, recorded)
    assert newest_resumable(tmp_path) == (recorded, [])


@pytest.mark.parametrize("content", ["", "/no/where/other.pth"])
def test_a_record_that_leads_nowhere(tmp_path, content):
    record(tmp_path, content)
    for name in ("epoch_9.pth", "epoch_10.pth", "best_coco_epoch_11.pth", "epoch_12.pth.bak"):
        save(tmp_path / name)
    newest, problems = newest_resumable(tmp_path)
    assert newest == str(tmp_path / "epoch_10.pth")
    assert problems == ([f"{content}: no such checkpoint file"] if content else [])


def test_a_work_dir_that_was_moved(tmp_path):
    save(tmp_path / "epoch_1.pth")
    here = save(tmp_path / "epoch_2.pth")
    record(tmp_path, "/before/it/moved/epoch_2.pth")
    assert newest_resumable(tmp_path) == (here, [])


def test_damaged_ones_are_left_out_and_named(tmp_path):
    save(tmp_path / "iter_700.pth")
    for epoch in (1, 2, 3):
        save(tmp_path / f"epoch_{epoch}.pth")
    damage(tmp_path / "epoch_3.pth")
    damage(tmp_path / "epoch_2.pth")
    record(tmp_path, tmp_path / "epoch_3.pth")
    newest, problems = newest_resumable(tmp_path)
    assert newest == str(tmp_path / "epoch_1.pth")  # of the recorded kind
    assert [problem.split(":")[0] for problem in problems] == [
        str(tmp_path / "epoch_3.pth"),
        str(tmp_path / "epoch_2.pth"),
    ]


def test_weights_alone_are_not_resumed_from(tmp_path):
    torch.save({"state_dict": {}}, tmp_path / "weights.pth")
    expected = r"weights only, no state of training \(no message_hub, meta\).*load_from=.*weights"
    with pytest.raises(UserError, match=expected):
        check_resumable(str(tmp_path / "weights.pth"))

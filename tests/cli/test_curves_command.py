"""Logs of runs become a picture and a table from the command line."""

import json

import pytest

from xcit_dense.cli import curves
from xcit_dense.errors import UserError

PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"


def write_log(work_dir, average_precision):
    path = work_dir / "20240101_120000/vis_data/scalars.json"
    path.parent.mkdir(parents=True)
    lines = [{"loss": 2.0, "iter": 10}, {"coco/bbox_mAP": average_precision, "step": 1}]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


@pytest.fixture
def runs(tmp_path):
    return [write_log(tmp_path / name, 0.1 * number).parents[2] for number, name in enumerate("ab")]


def test_one_run_is_drawn_beside_its_log(runs, capsys):
    curves.main([str(runs[1])])
    assert (runs[1] / "curves.png").read_bytes().startswith(PNG_SIGNATURE)
    assert capsys.readouterr().out.splitlines() == [
        "coco/bbox_mAP  0.1000",
        f"read:    {runs[1]}/20240101_120000/vis_data/scalars.json",
        f"written: {runs[1]}/curves.png",
    ]


def test_several_runs_are_compared(runs, tmp_path, capsys):
    out = tmp_path / "new" / "both.png"
    log = runs[0] / "20240101_120000/vis_data/scalars.json"
    log.write_text(log.read_text() + '{"mIoU": 0.5, "step": 1}\n')
    curves.main([str(log), str(runs[1]), "-o", str(out), "--keys", "loss", "coco/bbox_mAP"])
    assert out.read_bytes().startswith(PNG_SIGNATURE)
    heading, *rows, _, _, _ = capsys.readouterr().out.splitlines()
    assert heading.split() == ["scalars.json", "b"]
    assert [row.split() for row in rows] == [
        ["coco/bbox_mAP", "0.0000", "0.1000"],
        ["mIoU", "0.5000", "-"],
    ]
    assert len({len(line) for line in (heading, *rows)}) == 1


def test_runs_of_equal_names_are_told_apart(tmp_path, capsys):
    runs = [write_log(tmp_path / name / "run", 0.5).parents[2] for name in "xy"]
    curves.main([*map(str, runs), "-o", str(tmp_path / "c.png")])
    assert capsys.readouterr().out.splitlines()[0].split() == list(map(str, runs))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["{a}/nowhere"], "nowhere"),
        (["{a}", "--keys", "mIoU"], r"mIoU.*loss"),
        (["{a}", "-o", "{a}/c.xyz"], r"c\.xyz.*\.png"),
        (["{a}", "-o", "{a}/20240101_120000/vis_data/scalars.json/c.png"], "--out"),
    ],
)
def test_what_cannot_be_drawn_is_an_error_of_the_user(runs, arguments, message):
    with pytest.raises((UserError, FileNotFoundError), match=message):
        curves.main([argument.format(a=runs[0]) for argument in arguments])

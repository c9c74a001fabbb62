"""Logs of runs become a picture and a table from the command line."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from xcit_dense.cli import curves as analyze_logs
from xcit_dense.cli.main import run

pytest.importorskip("matplotlib")

PROJECT = Path(__file__).parents[2]
PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"


def write_log(work_dir, average_precision):
    path = work_dir / "20240101_120000/vis_data/scalars.json"
    path.parent.mkdir(parents=True)
    lines = [
        {"loss": 2.0, "loss_cls": 1.0, "iter": 10, "step": 10},
        {"coco/bbox_mAP": average_precision, "step": 1},
    ]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


@pytest.fixture
def runs(tmp_path):
    return [write_log(tmp_path / name, 0.1 * number).parents[2] for number, name in enumerate("ab")]


def test_one_run_is_drawn_beside_its_log(runs, capsys):
    analyze_logs.main([str(runs[1])])
    assert (runs[1] / "curves.png").read_bytes().startswith(PNG_SIGNATURE)
    printed = capsys.readouterr().out
    assert "coco/bbox_mAP      0.1000" in printed
    assert f"written: {runs[1]}/curves.png" in printed


def test_several_runs_are_compared(runs, tmp_path, capsys):
    log = runs[0] / "20240101_120000/vis_data/scalars.json"
    out = tmp_path / "new" / "both.png"
    analyze_logs.main([str(log), str(runs[1]), "-o", str(out), "--keys", "loss", "coco/bbox_mAP"])
    assert out.read_bytes().startswith(PNG_SIGNATURE)
    heading, row, *_ = capsys.readouterr().out.splitlines()
    assert heading.split() == ["scalars.json", "b"]
    assert row.split() == ["coco/bbox_mAP", "0.0000", "0.1000"]


def test_runs_of_equal_names_are_told_apart(tmp_path, capsys):
    runs = [write_log(tmp_path / name / "run", 0.5).parents[2] for name in "xy"]
    analyze_logs.main([*map(str, runs), "-o", str(tmp_path / "c.png")])
    assert capsys.readouterr().out.splitlines()[0].split() == list(map(str, runs))


def test_the_tool_itself(runs):
    process = subprocess.run(
        [sys.executable, "tools/analyze_logs.py", str(runs[0])],
        cwd=PROJECT, capture_output=True, text=True,
    )  # fmt: skip
    assert process.returncode == 0, process.stderr
    assert (runs[0] / "curves.png").is_file()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["{a}/nowhere"], r"^error: no scalar log found: looked for .*nowhere"),
        (["{a}", "--keys", "mIoU"], r"^error: 'mIoU' was not logged; there are loss, loss_cls"),
        (["{a}", "-o", "{a}/c.xyz"], r"^error: .*xyz"),
        (
            ["{a}", "-o", "{a}/20240101_120000/vis_data/scalars.json/c.png"],
            r"^error: .*File exists",
        ),
        (["{empty}"], r"^error: .*empty\.json has no whole record"),
        (["{null}"], r"^error: .*null\.json: line 1: the iteration is null"),
    ],
)
def test_what_cannot_be_drawn_ends_with_one_line(runs, monkeypatch, arguments, message):
    logs = {name: runs[0].parent / f"{name}.json" for name in ("empty", "null")}
    logs["empty"].touch()
    logs["null"].write_text('{"loss": 1.0, "iter": null}\n')
    arguments = [argument.format(a=runs[0], **logs) for argument in arguments]
    monkeypatch.setattr(sys, "argv", ["analyze_logs.py", *arguments])
    with pytest.raises(SystemExit, match=message):
        run(analyze_logs.main)


def test_a_folder_is_no_picture(runs, capsys):
    with pytest.raises(SystemExit, match="2"):
        analyze_logs.main([str(runs[0]), "-o", str(runs[1])])
    assert f"--out {runs[1]} is a folder; wanted is a picture's file" in capsys.readouterr().err


def test_the_parts_of_a_resumed_run_are_named(runs, capsys):
    later = runs[0] / "20240102_120000/vis_data/scalars.json"
    later.parent.mkdir(parents=True)
    later.write_text('{"loss": 1.0, "iter": 20}\n{"coco/bbox_mAP": 0.5, "step": 2}\n')
    analyze_logs.main([str(runs[0])])
    table, *read, _ = capsys.readouterr().out.splitlines()
    assert table.split() == ["coco/bbox_mAP", "0.5000"]
    parts = ["20240101_120000", "20240102_120000"]
    assert read == [f"read:    {runs[0]}/{part}/vis_data/scalars.json" for part in parts]

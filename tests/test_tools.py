"""The tools as a user starts them; those not here are started by the tests of what they do."""

import subprocess
import sys
from pathlib import Path

import pytest

PROJECT = Path(__file__).parents[1]
RETINANET = "mmdet::retinanet/retinanet_r18_fpn_1x_coco.py"


def run_tool(name, *arguments, code=0):
    """Run a tool from the root of the project; what it prints."""
    command = [sys.executable, f"tools/{name}", *map(str, arguments)]
    done = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, timeout=300)
    assert done.returncode == code, done.stderr
    return done.stdout + done.stderr


def test_swap_backbone_and_doctor(tmp_path):
    pytest.importorskip("mmdet", reason="the swapped config is mmdet's")
    out, size = tmp_path / "xcit.py", ("--size", 128, 128)
    printed = run_tool("swap_backbone.py", RETINANET, "--arch", "nano_12", "-o", out, *size)
    assert f"written: {out}" in printed
    assert "\nhealthy\n" in printed
    assert "XCiT" in out.read_text()
    broken = ("--cfg-options", "model.neck.in_channels=[128,128,1]")
    assert "model.neck.in_channels" in run_tool("doctor.py", out, *size, *broken, code=1)


def test_check_swap_coverage(tmp_path):
    pytest.importorskip("mmseg", reason="the configs are mmseg's")
    record, table = tmp_path / "record.jsonl", tmp_path / "table.md"
    printed = run_tool("check_swap_coverage.py", "walk", record, "--only", "mmseg/sem_fpn")
    assert "mmseg/sem_fpn: checked" in printed
    run_tool("check_swap_coverage.py", "table", table, f"here={record}")
    assert "| sem_fpn | 4 of 4 | EncoderDecoder with FPNHead" in table.read_text()

"""The tools as a user starts them: each explains itself, from the root of the project."""

import runpy
import subprocess
import sys
from pathlib import Path

import pytest

TOOLS = sorted((Path(__file__).parents[1] / "tools").glob("*.py"))


@pytest.mark.parametrize("tool", TOOLS, ids=lambda tool: tool.name)
def test_each_tool_explains_itself(tool, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", [str(tool), "--help"])
    with pytest.raises(SystemExit) as end:
        runpy.run_path(str(tool), run_name="__main__")
    assert not end.value.code
    assert tool.name in capsys.readouterr().out


def test_a_tool_starts_in_a_process_of_its_own():
    command = [sys.executable, "tools/doctor.py", "nowhere.py"]
    done = subprocess.run(command, cwd=TOOLS[0].parents[1], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.splitlines()[-1].startswith("error: config nowhere.py does not exist")

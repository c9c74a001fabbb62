"""The command line, from its options to the files that it leaves."""

import importlib.util
import json
from pathlib import Path

import pytest

TOOL = Path(__file__).parents[3] / "tools" / "benchmark.py"


@pytest.fixture(scope="module")
def tool():
    spec = importlib.util.spec_from_file_location("benchmark_tool", TOOL)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_a_whole_run(tool, tmp_path, capfd):
    command = "--arch nano_12 --modes inference --sizes 96 64 --repeats 1 --threads 1"
    contenders = ["--contenders", "xcit_direct", "xcit_gram", "--reference", "xcit_direct"]
    assert tool.main([*command.split(), *contenders, "--out", str(tmp_path)]) == 0

    assert {path.name for path in tmp_path.iterdir()} == {
        "results.json",
        "table.md",
        "time_and_memory.png",
    }
    measurements = json.loads((tmp_path / "results.json").read_text())["measurements"]
    assert [entry["status"] for entry in measurements] == ["measured"] * 4
    assert [entry["height"] for entry in measurements] == [64, 64, 96, 96]
    for entry in measurements:
        assert min(entry["median_seconds"], entry["flops"], entry["output_bytes"]) > 0
        if entry["contender"] == "xcit_gram":
            assert entry["difference"] < 1e-4

    printed = capfd.readouterr()
    assert (tmp_path / "table.md").read_text() in printed.out
    assert "| 64x64 | xcit_gram" in printed.out
    assert "inference 96x96: xcit_gram: warm-up, memory" in printed.err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--contenders", "vit"], "contender 'vit': 'vit' is unknown; use 'all' or some of"),
        (["--sizes", "big"], "size 'big': expected one side"),
        (["--reference", "vit"], "reference 'vit' is not among the contenders"),
        (["--quick", "--dtype", "fp8"], "dtype 'fp8' is unknown; use one of"),
    ],
)
def test_wrong_options_end_with_a_message(tool, capsys, arguments, message):
    with pytest.raises(SystemExit):
        tool.parse_arguments(arguments)
    assert message in capsys.readouterr().err


def test_quick_leaves_what_is_given(tool):
    options, plan = tool.parse_arguments(["--quick", "--repeats", "7"])
    assert options.sizes == ["224", "512"]
    assert plan.repeats == 7
    assert plan.reference in [contender.label for contender in plan.contenders]


def test_a_folder_that_cannot_be_written_ends_at_once(tool, tmp_path, capsys):
    (tmp_path / "file").touch()
    assert tool.main(["--quick", "--out", str(tmp_path / "file")]) == 1
    assert "error:" in capsys.readouterr().err

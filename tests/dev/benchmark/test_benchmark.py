"""Contenders take turns, none ends the run, and ratios are those of one run."""

import json
import math
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import compare_attention_forms
import pytest
import torch
from dev.benchmark import command, run
from dev.benchmark.contenders import CONTENDERS, INFERENCE, TRAINING, Contender
from dev.benchmark.plain_models import PlainXCiT
from dev.benchmark.processes import OwnProcess
from dev.benchmark.report import report
from dev.benchmark.run import Measurement, Size, run_benchmark
from dev.benchmark.runner import Runner

from xcit_dense import convert_state_dict


@pytest.fixture
def runner(monkeypatch):
    """A runner whose processes import nothing, in the place of the real one."""
    monkeypatch.syspath_prepend(Path(__file__).parent)
    from fake_contenders import FakeRunner

    monkeypatch.setattr(run, "Runner", FakeRunner)
    return FakeRunner


def fake(name):
    """A contender that processes know without an import."""
    return SimpleNamespace(name=name, label=name, checkout=None)


class Recorder:
    """In the place of a process: only writes down what it is asked, and where it would import."""

    def __init__(self, asked, make, checkout):
        self.asked, self.name = asked, make.args[0].name
        asked.append((self.name, checkout))

    def call(self, method, *arguments):
        self.asked.append((self.name, method))
        return {"prepare": 10**6, "time_run": 1.0, "rest": None}[method]

    def stop(self):
        self.asked.append((self.name, "stop"))


@pytest.fixture
def asked(monkeypatch):
    """What would be asked of processes, of which there are none."""
    asked = []
    monkeypatch.setattr(run, "OwnProcess", partial(Recorder, asked))
    return asked


def test_who_fails_or_dies_is_reported_and_the_others_go_on(runner):
    names = ("steady", "failing", "mortal", "unbuildable")
    jobs = [(INFERENCE, Size(32, 32)), (INFERENCE, Size(64, 64)), (TRAINING, Size(32, 32, 2))]
    runs = run_benchmark([fake(name) for name in names], jobs, 2)
    rows = [row for found in runs for row in found]

    statuses = {name: [row.status for row in rows if row.contender == name] for name in names}
    assert statuses["steady"] == ["measured"] * 3
    assert statuses["failing"][::2] == ["measured"] * 2
    assert "out of memory" in statuses["failing"][1] and "\n" not in statuses["failing"][1]
    assert statuses["mortal"] == ["measured", "died", "died"]
    assert all("its library is missing" in status for status in statuses["unbuildable"])
    for row in rows:
        is_there = row.status == "measured"
        assert row.seconds == [0.5, 0.5] * is_there
        assert row.peak_bytes == (10**6 if is_there else None)
    assert "| died" in report(rows, ["steady"])


def test_ratios_are_to_the_reference_in_the_same_mode_at_the_same_size():
    rows = [
        Measurement(INFERENCE, Size(8, 8), "slow", seconds=[3.0, 1.0, 2.0], peak_bytes=10**6),
        Measurement(INFERENCE, Size(8, 8), "fast", seconds=[0.5], peak_bytes=4 * 10**6),
        Measurement(INFERENCE, Size(8, 9), "slow", status="died"),
        Measurement(INFERENCE, Size(8, 9), "fast", seconds=[0.25]),
        Measurement(TRAINING, Size(8, 8), "slow", seconds=[3.0]),
        Measurement(TRAINING, Size(8, 8), "fast", seconds=[4.0]),
    ]
    lines = report(rows, ["slow"]).splitlines()
    cells = [[cell.strip() for cell in line.split("|")[1:]] for line in lines if "fast" in line]
    assert [line[2] for line in cells] == ["500 4.00x", "250", "4000 0.75x"]
    assert cells[0][3] == "4 0.25x"


@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        (["--contenders", "vit"], ["'vit'", "timm_xcit"]),
        (["--contenders", "xcit_auto:fp8"], ["fp8", "bf16"]),
        (["--contenders", "xcit_auto@nowhere"], ["'nowhere'", "no checkout"]),
        (["--out", __file__], [__file__]),
        (["--sizes", "12x"], ["'12x'", "800x1344"]),
        ([*compare_attention_forms.OPTIONS.split(), "--dtype", "x"], ["'x'", "bf16"]),
    ],
)
def test_wrong_values_are_named_with_what_is_right(capsys, arguments, parts):
    with pytest.raises(SystemExit) as stop:
        command.main(arguments)
    message = f"{capsys.readouterr().err}{stop.value}".splitlines()[-2:]
    assert all(part in " ".join(message) for part in parts), message


def test_the_command_lets_contenders_take_turns_and_leaves_files(tmp_path, capsys, asked):
    arguments = "--contenders xcit_direct timm_xcit:bf16 --repeats 2"
    sizes = "--sizes 64 48x32 --training-sizes 32x32x2"
    command.main([*arguments.split(), *sizes.split(), "--out", str(tmp_path)])
    names = ("xcit_direct", "timm_xcit")
    turns = [(name, step) for step in ("prepare", "time_run", "time_run", "rest") for name in names]
    assert asked[2:-2] == 3 * turns
    assert asked[-2:] == [(name, "stop") for name in names]
    rows = json.loads((tmp_path / "results.json").read_text())
    found = [(row["mode"], row["size"], row["status"]) for row in rows[::2]]
    sizes = [(INFERENCE, [48, 32, 1]), (INFERENCE, [64, 64, 1]), (TRAINING, [32, 32, 2])]
    assert found == [(*job, "measured") for job in sizes]
    assert (tmp_path / "time_and_memory.png").read_bytes().startswith(b"\x89PNG")
    assert "| 48x32 | xcit_direct " in (tmp_path / "table.md").read_text()
    assert "to timm_xcit:bf16" in capsys.readouterr().out


def test_a_comparison_of_checkouts_gives_each_its_own(tmp_path, asked):
    (tmp_path / "xcit_dense").mkdir()
    other = f"xcit_auto@{tmp_path}"
    arguments = ["--contenders", "timm_xcit", other, "xcit_auto", "xcit_auto:fp32"]
    arguments += ["--modes", "inference", "--sizes", "8", "--repeats", "1", "--out", str(tmp_path)]
    command.main(arguments)
    assert asked[:3] == [("timm_xcit", None), ("xcit_auto", tmp_path), ("xcit_auto", None)]
    assert [method for _, method in asked].count("stop") == 3  # each once
    assert f"to timm_xcit and to {other}" in (tmp_path / "table.md").read_text()


def test_a_process_imports_from_the_checkout_it_is_given(tmp_path, runner):
    package = tmp_path / "xcit_dense" / "__init__.py"
    package.parent.mkdir()
    package.touch()
    process = OwnProcess(partial(runner, fake("this")), checkout=tmp_path)
    assert process.call("imported") == str(package)
    process.stop()


def test_a_runner_runs_in_the_mode_the_size_and_the_precision_asked_for():
    seen = []

    class Levels(torch.nn.Conv2d):
        def forward(self, image):
            level = super().forward(image)
            seen.append((self.training, level.requires_grad, level.dtype, tuple(image.shape)))
            return [level] * 4

    build = lambda arch, patch_size: Levels(3, 4, 3)  # noqa: E731
    runner = Runner(Contender("levels", build, dtype="bf16"), arch="nano_12", patch_size=16)
    for mode, is_training in (INFERENCE, False), (TRAINING, True):
        seen.clear()
        assert (runner.prepare(mode, 16, 24, 2) or 0) >= 0
        assert 0 < runner.time_run() < math.inf
        assert set(seen) == {(is_training, is_training, torch.bfloat16, (2, 3, 16, 24))}
        assert (runner.model.weight.grad is not None) == is_training
        runner.rest()
        assert runner.model.weight.grad is None


@pytest.mark.parametrize("name", ["timm_xcit", "timm_xcit_plain"])
@pytest.mark.parametrize("patch_size", [8, 16])
def test_the_published_one_is_the_same_function(name, patch_size):
    published = CONTENDERS[name].build("nano_12", patch_size).eval()
    ours = PlainXCiT("nano_12", patch_size, "direct").eval()
    tensors = convert_state_dict(published.trunk.state_dict())
    tensors |= {k: v for k, v in published.state_dict().items() if k.startswith("pyramid.")}
    ours.load_state_dict(tensors)
    image = torch.randn(1, 3, 64, 96)
    with torch.no_grad():
        for level, want in zip(ours(image), published(image), strict=True):
            torch.testing.assert_close(level, want, rtol=1e-4, atol=1e-4 * float(want.abs().max()))


@pytest.mark.parametrize("name", ["resnet50", "convnext_tiny", "pvtv2_b2", "swin_tiny"])
def test_peers_give_the_four_strides(name):
    with torch.device("meta"), torch.no_grad():
        levels = CONTENDERS[name].build("nano_12", 16).eval()(torch.empty(1, 3, 64, 96))
    for level, stride in zip(levels, (4, 8, 16, 32), strict=True):
        assert (64 // stride, 96 // stride) in (level.shape[2:], level.shape[1:3])

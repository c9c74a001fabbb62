"""Contenders take turns, none ends the run, and ratios are those of one run."""

import json
from functools import partial
from pathlib import Path

import compare_attention_forms
import pytest
import torch
from dev.benchmark import checkouts, command, masks, run
from dev.benchmark.contenders import CONTENDERS, INFERENCE, TRAINING, Contender
from dev.benchmark.counting import Kernels
from dev.benchmark.masks import HEADS, MaskRunner
from dev.benchmark.processes import OwnProcess, ProcessError
from dev.benchmark.report import report
from dev.benchmark.run import Measurement, run_benchmark
from dev.benchmark.worker import Runner, Size

from xcit_dense import convert_state_dict

PROJECT = Path(__file__).parents[3]


def test_who_fails_or_dies_is_reported_and_the_others_go_on(monkeypatch):
    monkeypatch.syspath_prepend(Path(__file__).parent)
    import fake_contenders as fakes

    builders = {
        "steady": fakes.Fake,
        "failing": partial(fakes.Fake, large=fakes.fail),
        "mortal": partial(fakes.Fake, large=fakes.die),
        "unbuildable": fakes.unbuildable,
    }
    contenders = [Contender(name, build) for name, build in builders.items()]
    sizes = {INFERENCE: [Size(32, 32), Size(64, 64)], TRAINING: [Size(32, 32, 2)]}
    runs = run_benchmark(contenders, sizes, 2, print, arch="nano_12", patch_size=16)
    rows = [row for found in runs for row in found]

    statuses = {name: [row.status for row in rows if row.contender == name] for name in builders}
    assert statuses["steady"] == ["measured"] * 3
    assert statuses["failing"][::2] == ["measured"] * 2
    assert "out of memory" in statuses["failing"][1] and "\n" not in statuses["failing"][1]
    assert statuses["mortal"] == ["measured", "died", "died"]
    assert all("its library is missing" in status for status in statuses["unbuildable"])
    for row in rows:
        assert len(row.seconds) == (2 if row.status == "measured" else 0)
    assert rows[0].kernels == 1
    assert rows[0].moved_bytes == 4 * (3 * 32 * 32 + 4 * 3 * 9 + 4 + 4 * 32 * 32)
    assert "| died" in report(rows, ["steady"])


class Recorder:
    """A process that only writes down what it is asked."""

    def __init__(self, asked, make, checkout):
        self.asked, self.name = asked, make.args[0].name

    def call(self, method, *arguments):
        self.asked.append((self.name, method))
        return {"prepare": {}, "time_run": 1.0, "rest": None}[method]

    def stop(self):
        self.asked.append((self.name, "stop"))


def test_contenders_take_turns_and_are_stopped_when_the_run_is_left(monkeypatch):
    asked = []
    monkeypatch.setattr(run, "OwnProcess", partial(Recorder, asked))
    contenders = [Contender("a", None), Contender("b", None, modes=(INFERENCE,))]
    sizes = {INFERENCE: [Size(8, 8)], TRAINING: [Size(8, 8)]}
    runs = run_benchmark(contenders, sizes, 2, print)
    assert [row.contender for row in next(runs)] == ["a", "b"]
    turns = [(name, method) for method in ("prepare", "time_run", "time_run") for name in "ab"]
    assert asked[:6] == turns
    assert [row.contender for row in next(runs)] == ["a"]
    runs.close()
    assert asked[-2:] == [("a", "stop"), ("b", "stop")]


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
    ("main", "arguments", "parts"),
    [
        (command.main, ["--contenders", "vit"], ["'vit'", "timm_xcit"]),
        (command.main, ["--contenders", "xcit_auto:fp8"], ["'fp8'", "bf16"]),
        (command.main, ["--device", "tpu"], ["'tpu'", "cuda"]),
        (command.main, ["--out", __file__], [__file__]),
        (command.main, ["--sizes", "12x"], ["'12x'", "800x1344"]),
        (command.main, ["--quick", "--repeats", "0"], ["'0'", "above 0"]),
        (command.main, [*compare_attention_forms.OPTIONS.split(), "--dtype", "x"], ["'x'", "bf16"]),
        (checkouts.main, ["nowhere", "inference:8"], ["'nowhere'", "no checkout"]),
        (checkouts.main, [str(PROJECT), "sleeping:8"], ["'sleeping'", "training"]),
        (checkouts.main, [str(PROJECT), "memory:0"], ["'0'", "800x1344"]),
        (masks.main, ["--heads", "YOLO"], ["'YOLO'", "segmentor"]),
    ],
)
def test_wrong_values_are_named_with_what_is_right(capsys, main, arguments, parts):
    with pytest.raises(SystemExit):
        main(arguments)
    message = capsys.readouterr().err.splitlines()[-1]
    assert all(part in message for part in parts), message


def test_the_command_leaves_table_numbers_and_picture(tmp_path, capsys):
    arguments = "--arch nano_12 --contenders xcit_direct timm_xcit --repeats 1 --threads 1"
    sizes = "--sizes 64 48x32 --training-sizes 32x32x2"
    command.main([*arguments.split(), *sizes.split(), "--out", str(tmp_path)])
    rows = json.loads((tmp_path / "results.json").read_text())
    assert [(row["mode"], row["size"]) for row in rows[::2]] == [
        (INFERENCE, [48, 32, 1]),
        (INFERENCE, [64, 64, 1]),
        (TRAINING, [32, 32, 2]),
    ]
    assert {row["status"] for row in rows} == {"measured"}
    assert (tmp_path / "time_and_memory.png").read_bytes().startswith(b"\x89PNG")
    assert "| 48x32 | xcit_direct |" in (tmp_path / "table.md").read_text()
    assert "xcit_direct" in capsys.readouterr().out


def test_a_process_imports_from_the_checkout_it_is_given(tmp_path):
    (tmp_path / "xcit_dense").mkdir()
    (tmp_path / "xcit_dense" / "__init__.py").write_text("raise ImportError('the other one')")
    runner = partial(Runner, CONTENDERS["xcit_auto"], arch="nano_12", patch_size=16)
    process = OwnProcess(runner, checkout=tmp_path)
    with pytest.raises(ProcessError, match="the other one"):
        process.call("rest")
    process.stop()


@pytest.mark.parametrize("name", ["timm_xcit", "timm_xcit_plain"])
@pytest.mark.parametrize("patch_size", [8, 16])
def test_the_published_one_is_the_same_function(name, patch_size):
    published = CONTENDERS[name].build("nano_12", patch_size).eval()
    ours = CONTENDERS["xcit_direct"].build("nano_12", patch_size).eval()
    tensors = convert_state_dict(published.trunk.state_dict())
    tensors |= {k: v for k, v in published.state_dict().items() if k.startswith("pyramid.")}
    ours.load_state_dict(tensors)
    image = torch.randn(1, 3, 64, 96)
    with torch.no_grad():
        for level, want in zip(ours(image), published(image), strict=True):
            torch.testing.assert_close(level, want, rtol=1e-4, atol=1e-4 * float(want.abs().max()))


@pytest.mark.parametrize("name", ["resnet50", "convnext_tiny", "pvtv2_b2", "swin_tiny"])
def test_peers_give_the_four_strides(name):
    model = CONTENDERS[name].build("nano_12", 16).eval()
    with torch.no_grad():
        levels = model(torch.randn(1, 3, 64, 96))
    for level, stride in zip(levels, (4, 8, 16, 32), strict=True):
        assert (64 // stride, 96 // stride) in (level.shape[2:], level.shape[1:3])


def test_kernels_are_what_makes_or_changes_tensors():
    numbers = torch.randn(10, 10)
    with Kernels() as kernels:
        (numbers.T[:5] + 1).relu_()
    assert kernels.count == 2
    assert kernels.bytes == 4 * (50 + 50) + 4 * (50 + 50)


@pytest.mark.parametrize("head", HEADS)
def test_both_ways_make_the_same_masks(head):
    pytest.importorskip("mmseg")
    _, _, mm = MaskRunner(head, False, (150, 200, 5)).measure()
    _, _, one_by_one = MaskRunner(head, True, (150, 200, 5)).measure()
    _, _, others = MaskRunner(head, True, (150, 200, 6)).measure()
    assert mm == one_by_one != others

"""What a training shows: a few lines before the first iteration, and a bar on a terminal."""

import os
import pty
import sys
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from threading import Thread

import pytest
from dev.demo_data import Plan, write_ade20k, write_coco
from mmengine.config import Config

from xcit_dense.cli import train
from xcit_dense.errors import UserError

CONFIGS = Path(__file__).parents[2] / "configs"
TINY = ["model.backbone.arch.embed_dims=16", "model.backbone.arch.depth=4"]
DETECTION = [
    str(CONFIGS / "demo/xcit_maskrcnn_demo.py"), "--cfg-options", *TINY,
    "model.neck.in_channels=[16,16,16,16]", "train_cfg.max_epochs=1",
]  # fmt: skip
SEGMENTATION = [
    str(CONFIGS / "demo/xcit_upernet_demo.py"), "--cfg-options", *TINY,
    "model.decode_head.in_channels=[16,16,16,16]", "model.auxiliary_head.in_channels=16",
    "train_cfg.max_iters=2", "train_dataloader.batch_size=2",
]  # fmt: skip


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    root = tmp_path_factory.mktemp("data")
    write_coco(root / "coco", Plan(train=6, val=3, size=64))
    write_ade20k(root / "ade20k", Plan(train=6, val=3, size=64))
    return root


@pytest.mark.parametrize(
    ("options", "folder"), [(DETECTION, "coco"), (SEGMENTATION, "ade20k")], ids=["mmdet", "mmseg"]
)
def test_few_lines_before_the_first_iteration(options, folder, data, tmp_path, capfd):
    train.main([*options, f"--data-root={data / folder}", f"--work-dir={tmp_path}"])
    printed = capfd.readouterr()
    before, first, _ = printed.out.partition("(train)")
    assert first and "\r" not in printed.out
    lines = [*before.splitlines(), *printed.err.splitlines()]
    assert len(lines) < 25, "\n".join(lines)
    assert "faster_coco_eval" not in printed.err
    (log,) = tmp_path.glob("*/*.log")
    logged = log.read_text()
    for part in ("System environment", "param_scheduler", "Hooks will be", "paramwise_options"):
        assert part in logged and part not in before
    assert str(log) in before
    written = Config.fromfile(tmp_path / Path(options[0]).name)
    assert written.model == Config.fromfile(log.parent / "vis_data/config.py").model


def test_a_terminal_shows_a_bar_and_the_log_file_none(data, tmp_path):
    read_end, write_end = pty.openpty()
    shown = []
    reader = Thread(target=lambda: shown.extend(iter(lambda: _read(read_end), b"")))
    reader.start()
    with open(write_end, "w") as terminal, redirect_stdout(terminal), redirect_stderr(terminal):
        train.main([*DETECTION, f"--data-root={data / 'coco'}", f"--work-dir={tmp_path}"])
        assert sys.stdout is terminal
    reader.join()
    os.close(read_end)
    text = b"".join(shown).decode()
    assert "\repoch 1/1:" in text and "\rvalidation:" in text
    assert text.count("Average Precision") == 2 * 6
    (log,) = tmp_path.glob("*/*.log")
    assert "\r" not in log.read_text() and "validation:" not in log.read_text()


def _read(file):
    try:
        return os.read(file, 65536)
    except OSError:  # the other end is closed
        return b""


def test_trackers(monkeypatch):
    args = train.make_parser().parse_args(["config.py", "--tracker", "tensorboard"])
    monkeypatch.setattr(train, "find_spec", lambda name: None)
    with pytest.raises(UserError, match="pip install tensorboard"):
        train.use_tracker(Config(), args)
    monkeypatch.setattr(train, "find_spec", lambda name: name)
    local, tracker = {"type": "LocalVisBackend"}, {"type": "TensorboardVisBackend"}
    for visualizer, backends in [
        ({"type": "DetLocalVisualizer", "vis_backends": [local]}, [local, tracker]),
        ({"type": "DetLocalVisualizer"}, [tracker]),
        ({"type": "DetLocalVisualizer", "vis_backends": [tracker]}, [tracker]),
        (None, [local, tracker]),
    ]:
        cfg = Config({"visualizer": visualizer})
        train.use_tracker(cfg, args)
        assert cfg.visualizer.vis_backends == backends

"""The bar on a terminal."""

import io
import sys
from contextlib import redirect_stderr, redirect_stdout

import pytest
import torch

from xcit_dense.mm import progress_hook
from xcit_dense.mm.progress_hook import Bar, ProgressHook, bar_on_terminal


class Terminal(io.StringIO):
    """Shows what a terminal would."""

    def isatty(self):
        return True

    @property
    def screen(self):
        lines = []
        for line in self.getvalue().split("\n"):
            shown = ""
            for text in line.split("\r"):
                shown = text + shown[len(text) :]
            lines.append(shown.rstrip())
        return lines


def test_text_comes_above_the_bar():
    terminal = Terminal()
    with redirect_stdout(terminal), redirect_stderr(terminal):
        with bar_on_terminal() as bar:
            bar.show("a long bar")
            print("printed")
            bar.show("a bar")
            sys.stderr.write("a warning\n")
            bar.show("the bar")
            bar.show("bar")
            assert terminal.screen == ["printed", "a warning", "bar"]
        assert sys.stdout is sys.stderr is terminal
    assert terminal.screen == ["printed", "a warning", ""]


def test_an_interrupt_leaves_an_empty_line():
    terminal = Terminal()
    with pytest.raises(KeyboardInterrupt), redirect_stdout(terminal), bar_on_terminal() as bar:
        bar.show("a bar")
        raise KeyboardInterrupt
    assert terminal.screen == [""]


def test_no_bar_without_a_terminal():
    with bar_on_terminal() as bar:
        assert bar is None


@pytest.mark.parametrize("by_epoch", [True, False])
def test_a_resumed_training_shows_where_it_is(toy_runner, monkeypatch, by_epoch):
    monkeypatch.setattr(progress_hook, "_SECONDS_BETWEEN", 0.0)
    shown = []
    bar = Bar(Terminal())
    monkeypatch.setattr(bar, "show", shown.append)
    options = {"by_epoch": by_epoch, "length": 2 if by_epoch else 12, "hooks": [ProgressHook(bar)]}
    with pytest.raises(KeyboardInterrupt):
        toy_runner(**options, val_interval=1 if by_epoch else 6, stop=8).train()
    label = "epoch 2/2" if by_epoch else "training"
    assert shown[-1].startswith(f"{label}:  67%") and " 8/12 [" in shown[-1]
    assert "loss " in shown[-1]
    validation = [line for line in shown if line.startswith("validation")]
    assert [line.partition("/2 ")[0][-1] for line in validation] == ["1", "2"]
    del shown[:]
    toy_runner(**options, val_interval=100, resume=True).train()
    assert " 8/12 [" in shown[0]  # all eight were saved
    assert " 12/12 [" in [line for line in shown if not line.startswith("validation")][-1]


def test_losses_that_there_is_room_for():
    outputs = {"loss": torch.ones(1, requires_grad=True), "loss_cls": 0.25, "acc": 1, "loss_x": 9.0}
    assert progress_hook._losses(outputs, 21) == "loss 1.000, cls 0.250"
    assert progress_hook._losses(outputs, 40) == "loss 1.000, cls 0.250, x 9.000"
    assert progress_hook._losses(outputs, 0) == "loss 1.000"

"""A bar on a terminal that says how far a training is; files and pipes get lines only."""

import shutil
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, redirect_stderr, redirect_stdout
from typing import Any, TextIO

import torch
from mmengine.dist import is_main_process
from mmengine.hooks import Hook
from mmengine.runner import IterBasedTrainLoop
from tqdm import tqdm

_SECONDS_BETWEEN = 0.2
_WIDTH_OF_NUMBERS = 60  # of a line, before the losses


class Bar:
    """The last line of a terminal, wiped away before anything else is written there.

    Args:
        stream: the terminal.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._width = 0

    def show(self, line: str) -> None:
        """Put a line in the place of the one that is shown."""
        self._stream.write("\r" + line.ljust(self._width))
        self._stream.flush()
        self._width = len(line)

    def wipe(self) -> None:
        """Leave an empty line."""
        if self._width:
            self._stream.write("\r" + " " * self._width + "\r")
            self._stream.flush()
            self._width = 0


class AboveBar:
    """A stream whose text comes above the bar; all else is the stream's."""

    def __init__(self, stream: TextIO, bar: Bar) -> None:
        self._stream = stream
        self._bar = bar

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        """Write text where the bar was, which comes back below it."""
        self._bar.wipe()
        return self._stream.write(text)


@contextmanager
def bar_on_terminal() -> Iterator[Bar | None]:
    """A bar, and ``sys.stdout`` and ``sys.stderr`` above it; None where stdout is no terminal."""
    if not sys.stdout.isatty():
        yield None
        return
    bar = Bar(sys.stdout)
    with ExitStack() as stack:
        stack.callback(bar.wipe)
        stack.enter_context(redirect_stdout(AboveBar(sys.stdout, bar)))
        if sys.stderr.isatty():
            stack.enter_context(redirect_stderr(AboveBar(sys.stderr, bar)))
        yield bar


class ProgressHook(Hook):
    """Shows the iteration of the whole training, the time that remains, and the losses.

    The remaining time counts validation in the share that it has had so far. Validation has a bar
    of its own.

    Args:
        bar: where to; of several processes the first shows it.
    """

    priority = "LOWEST"  # after what the others print

    def __init__(self, bar: Bar) -> None:
        self.bar = bar

    def before_train(self, runner: Any) -> None:
        """Show where the training begins, which is not at 0 if it is resumed."""
        self._first = runner.iter
        self._began = time.monotonic()
        self._shown = 0.0
        self._show_training(runner, runner.iter, {})

    def after_train_iter(
        self, runner: Any, batch_idx: int, data_batch: Any = None, outputs: dict | None = None
    ) -> None:
        """Show what is done, some times a second."""
        self._show_training(runner, runner.iter + 1, outputs or {})

    def before_val_epoch(self, runner: Any) -> None:
        """Begin a bar."""
        self._began_validation = time.monotonic()

    def after_val_iter(
        self, runner: Any, batch_idx: int, data_batch: Any = None, outputs: Any = None
    ) -> None:
        """Show how much is validated; at its end make room for the metrics."""
        total = len(runner.val_dataloader)
        self._show(batch_idx + 1, total, self._began_validation, "validation")
        if batch_idx + 1 == total and is_main_process():
            self.bar.wipe()

    def after_train(self, runner: Any) -> None:
        """Leave an empty line."""
        self.bar.wipe()

    def _show_training(self, runner: Any, done: int, outputs: Mapping[str, Any]) -> None:
        by_iteration = isinstance(runner.train_loop, IterBasedTrainLoop)
        label = "training" if by_iteration else f"epoch {runner.epoch + 1}/{runner.max_epochs}"
        self._show(done, runner.max_iters, self._began, label, outputs, self._first)

    def _show(
        self,
        done: int,
        total: int,
        began: float,
        label: str,
        outputs: Mapping[str, Any] | None = None,
        first: int = 0,
    ) -> None:
        now = time.monotonic()
        if now - self._shown < _SECONDS_BETWEEN or not is_main_process():
            return
        self._shown = now
        width = shutil.get_terminal_size().columns - 1  # in the last column a line would wrap
        losses = _losses(outputs or {}, width - _WIDTH_OF_NUMBERS)
        self.bar.show(
            tqdm.format_meter(
                done, total, now - began, width, label, postfix=losses, initial=first
            ).rstrip()
        )


def _losses(outputs: Mapping[str, Any], width: int) -> str:
    """The total and as many of its terms as there is room for."""
    text = ""
    for name, value in outputs.items():
        if "loss" not in name:
            continue
        more = f"{name.replace('loss_', '')} {torch.as_tensor(value).item():.3f}"
        if text and len(f"{text}, {more}") > width:
            break
        text = f"{text}, {more}" if text else more
    return text

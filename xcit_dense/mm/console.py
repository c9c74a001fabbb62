"""What reaches the console of a training before its first iteration; the log file has all.

mmengine logs its environment, the whole config, the hooks and a line for every parameter. Until
training begins the console shows warnings, errors and what :func:`tell` says.
"""

import logging
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from functools import wraps
from importlib import import_module
from typing import Any

from mmengine.config import Config
from mmengine.logging import MMLogger

from xcit_dense.mm.config import PACKAGES, model_scope

# what libraries say of code of their own, and each process of its threads
_NOISE = re.compile('"FileClient" will be deprecated|"HardDiskBackend" is the alias')
_NOISY_WARNINGS = (
    "Setting (MKL|OMP)_NUM_THREADS",
    "`broadcast_buffers` is deprecated",
    "``build_loss`` would be deprecated",
    "`reduce_zero_label` will be deprecated",
    "Default ``avg_non_ignore`` is False",
    "The draw is False",
)


class Essentials(logging.Filter):
    """Passes warnings, errors and what :func:`tell` says; everything once ``is_over``."""

    is_over = False

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether a record reaches the console."""
        if _NOISE.match(record.getMessage()):
            return False
        is_told = getattr(record, "is_told", False)
        return self.is_over or is_told or record.levelno >= logging.WARNING


def tell(text: str, level: int = logging.INFO) -> None:
    """Log what a user should read before the training."""
    MMLogger.get_current_instance().log(level, text, extra={"is_told": True})


@contextmanager
def essentials_only() -> Iterator[Essentials]:
    """Filter the consoles of all loggers that are made meanwhile, and warnings that are noise.

    mmengine's runner makes its logger and logs the config in one go, so there is no later place.
    """
    essentials, init = Essentials(), MMLogger.__init__

    @wraps(init)
    def init_filtered(logger: MMLogger, *args: Any, **kwargs: Any) -> None:
        init(logger, *args, **kwargs)
        for handler in logger.handlers:
            if not isinstance(handler, logging.FileHandler):
                handler.addFilter(essentials)

    MMLogger.__init__ = init_filtered
    try:
        with warnings.catch_warnings():
            for message in _NOISY_WARNINGS:
                warnings.filterwarnings("ignore", message)
            yield essentials
    finally:
        MMLogger.__init__ = init


def import_openmmlab(cfg: Config) -> None:
    """Import the data sets and metrics for the model of a config without what they say meanwhile.

    The forks print that they lack data sets of their makers, and warn that no metric can be
    computed, which is so for one metric that needs another package.
    """
    package = model_scope(cfg)
    if package not in PACKAGES:
        return
    with redirect_stdout(None), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "faster_coco_eval is not installed")
        import_module(f"{package}.datasets")
        import_module(f"{package}.evaluation")

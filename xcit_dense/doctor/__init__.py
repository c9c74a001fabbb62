"""Whether a config makes a model that trains: found by building it and taking a step."""

import io
import logging
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout

import torch
from mmengine.config import Config
from mmengine.registry import DefaultScope

from xcit_dense.doctor import checks
from xcit_dense.doctor.trial import (
    DEFAULT_IMAGE_SIZE,
    Size,
    Trial,
    build_trial,
    failure,
    report,
)
from xcit_dense.errors import Finding, in_one_line

__all__ = ["DEFAULT_IMAGE_SIZE", "Finding", "Trial", "diagnose", "report"]


def diagnose(cfg: Config, image_size: Size = DEFAULT_IMAGE_SIZE) -> Trial:
    """Build the model of a config on the CPU, take one training step and predict one image.

    The images are random, the weights too. What goes wrong is found, not raised.

    Args:
        cfg: the config; stays as it is.
        image_size: height and width, in pixels; rounded up to multiples of 128. A model that is
            made for one size takes that.
    """
    torch.manual_seed(0)
    with DefaultScope.overwrite_default_scope(cfg.get("default_scope")), _quiet():
        try:
            trial = build_trial(cfg, image_size)
        except Exception as error:  # a model is anybody's code
            return Trial(cfg, [failure("building the model", error)])
        for check in checks.CHECKS:
            try:
                for finding in check(trial):
                    if finding not in trial.findings:  # stages of a cascade may share one dict
                        trial.findings.append(finding)
            except Exception as error:  # a user's parts may be like none that the check knows
                text = f"{check.__name__} is not understood: {in_one_line(error)}"
                trial.findings.append(Finding(text, is_wrong=False))
    return trial


@contextmanager
def _quiet() -> Iterator[None]:
    """Errors only: mm says of each parameter how it is initialized and learns."""
    logging.disable(logging.WARNING)
    try:
        with redirect_stdout(io.StringIO()):  # mm's layer-wise constructors print
            yield
    finally:
        logging.disable(logging.NOTSET)

"""Without mm's lines on every parameter."""

import io
import logging
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout

from mmengine.logging import MMLogger


@contextmanager
def quiet() -> Iterator[None]:
    """Let mm say errors only: how each parameter is initialized and learns fills pages."""
    logger = MMLogger.get_current_instance()
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with redirect_stdout(io.StringIO()):  # mm's layer-wise constructors print
            yield
    finally:
        logger.setLevel(level)

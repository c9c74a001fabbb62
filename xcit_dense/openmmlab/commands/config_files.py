"""Reading config files."""

import os.path as osp
from typing import Any

from mmengine.config import Config

from xcit_dense.openmmlab.commands.data_roots import DataError


class ConfigError(DataError):
    """A config cannot be read."""


def read_config(path: str, changes: dict[str, Any] | None = None) -> Config:
    """Read a config file.

    Args:
        path: the file.
        changes: values that override the config's, by their dotted names.

    Raises:
        FileNotFoundError: there is no such file.
        ConfigError: its content is no config.
    """
    if not osp.isfile(path):
        raise FileNotFoundError(f"config {path} does not exist")
    try:
        cfg = Config.fromfile(path)
    except (SyntaxError, NameError, TypeError, ValueError, KeyError, ImportError, OSError) as error:
        raise ConfigError(f"config {path}: {type(error).__name__}: {error}") from error
    if changes:
        cfg.merge_from_dict(changes)
    return cfg

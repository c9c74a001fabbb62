"""Importing this replaces functions of mmengine; no other module does so when it is imported.

The commands import it, and configs name it in ``custom_imports``. From then on

- no checkpoint that mmengine loads runs code: ``load_from``, ``resume`` and ``init_cfg``, from
  files, URLs, stores and model zoos. mmengine 0.10.7 loads files with torch's own protection, which
  refuses its own checkpoints, and downloads without any; its fork loads what was refused once more
  without protection;
- ``timm://NAME`` is a checkpoint;
- files are written whole or not at all, and errors of the disk name the file;
- processes that load data end with the one that they load for, also if that is killed;
- an image that a data set cannot load is named, and a data set without images;
- ``_base_ = 'mmdet::...'``, ``read_base()`` and ``mmengine.hub`` find packages without
  ``pkg_resources``, which setuptools no longer has, and ``xcit_dense::...`` names our configs.
"""

import ctypes
import functools
import inspect
import os
import signal
import sys
from importlib import metadata
from importlib.machinery import ModuleSpec
from importlib.util import find_spec
from io import StringIO
from typing import Any, BinaryIO

import mmengine.config.config
import mmengine.hooks.checkpoint_hook
import mmengine.hub.hub
import mmengine.runner.runner
import mmengine.utils.package_utils
import numpy as np
import torch
from mmengine.config import Config
from mmengine.config.utils import MODULE2PACKAGE
from mmengine.dataset import BaseDataset, worker_init_fn
from mmengine.fileio import register_backend
from mmengine.runner import CheckpointLoader
from mmengine.runner import checkpoint as mmengine_checkpoint
from mmengine.visualization import LocalVisBackend

from xcit_dense.atomic_files import StoppableFile, named_in_errors, write_atomically
from xcit_dense.errors import UserError, in_one_line
from xcit_dense.mm.config import find_config
from xcit_dense.mm.data import IGNORED_LABEL, check_label_map, compare_sizes
from xcit_dense.mm.saving import AtomicLocalBackend
from xcit_dense.weights.published_weights import TIMM, load_from_http, load_from_timm
from xcit_dense.weights.safe_loading import load_checkpoint_file, load_from_local

_PR_SET_PDEATHSIG = 1  # of prctl(2)


class TorchThatLoadsSafely:
    """torch as mmengine's checkpoint module sees it: all is the same but these two."""

    def __getattr__(self, name: str) -> Any:
        return getattr(torch, name)

    @staticmethod
    def save(content: object, file: BinaryIO, **options: Any) -> None:
        """Save into an open file; a Ctrl-C meanwhile ends in an exception."""
        torch.save(content, StoppableFile(file), **options)

    @staticmethod
    def load(file: str | BinaryIO, map_location: Any = None, **_: Any) -> dict:
        """Load a path, or the content of a file that mmengine has fetched from a store."""
        if isinstance(file, (str, os.PathLike)):
            return load_from_local(os.fspath(file), map_location)
        return load_checkpoint_file(file, map_location, "the fetched checkpoint")


def is_installed(package: str) -> bool:
    """Whether there is a package, by the name that pip knows or by its module's."""
    try:
        metadata.distribution(package)
    except metadata.PackageNotFoundError:
        return _module_of(package) is not None
    return True


def get_installed_path(package: str) -> str:
    """The folder of a package's module.

    Args:
        package: the name that pip knows, such as ``mmsegmentation``, or the module's, ``mmseg``.

    Raises:
        ModuleNotFoundError: there is none.
    """
    spec = _module_of(package)
    if spec is None or spec.origin is None:
        raise ModuleNotFoundError(f"{package} is not installed, or is a namespace package")
    return os.path.dirname(spec.origin)


def _module_of(package: str) -> ModuleSpec | None:
    modules = {package: module for module, package in MODULE2PACKAGE.items()}
    return find_spec(modules.get(package, package))


find_base = inspect.unwrap(Config._get_cfg_path)


@functools.wraps(find_base)
def find_base_and_scope(cfg_path: str, filename: str) -> tuple[str, str | None]:
    """Find a base config, and the scope of its classes where it is of another package."""
    if cfg_path.startswith("xcit_dense::"):
        return str(find_config(cfg_path)), None
    return find_base(cfg_path, filename)


def prepare_data(dataset: BaseDataset, idx: int) -> Any:
    """Load a sample; warns of an image that is not of its annotated size.

    Raises:
        UserError: that fails, or its label map does not fit; names the image.
    """
    info = dataset.get_data_info(idx)
    name = info.get("img_path", f"sample {idx}")
    annotated_size = info.get("height"), info.get("width")
    try:
        sample = dataset.pipeline(info)
        ignored = getattr(dataset, "ignore_index", IGNORED_LABEL)
        check_label_map(sample, dataset.metainfo.get("classes"), ignored)
    except Exception as error:  # transforms of any kind may fail in any way
        reason = str(error) if isinstance(error, UserError) else in_one_line(error)
        raise UserError(f"{name}: cannot be used ({reason})") from error
    if annotated_size != (None, None):
        compare_sizes(sample, annotated_size, name)
    return sample


serialize_data = inspect.unwrap(BaseDataset._serialize_data)


@functools.wraps(serialize_data)
def serialize_samples(dataset: BaseDataset) -> tuple[np.ndarray, np.ndarray]:
    """Pack the samples of a data set.

    Raises:
        UserError: there are none.
    """
    if not dataset.data_list:
        looked = ", ".join(filter(None, [dataset.ann_file, *dataset.data_prefix.values()]))
        raise UserError(
            f"the data set has no image: looked in {looked}; see its suffixes (img_suffix, "
            "seg_map_suffix), and whether there are objects of metainfo.classes (filter_cfg)"
        )
    return serialize_data(dataset)


class AtomicTextFile(StringIO):
    """A text file to write, which replaces the old one at once, when all is there."""

    def __init__(self, path: str, mode: str) -> None:
        super().__init__()
        self._path = path

    def __exit__(self, kind: type[BaseException] | None, *details: Any) -> None:
        """Write what was collected, unless that has failed."""
        if kind is None:
            write_atomically(self._path, lambda file: file.write(self.getvalue().encode()))


dump_config = inspect.unwrap(Config.dump)


@functools.wraps(dump_config)
def dump_config_atomically(cfg: Config, file: str | os.PathLike | None = None) -> str | None:
    """Write a config, or return its text."""
    if file is None or not str(file).endswith(".py"):  # mmengine's backend writes other formats
        return dump_config(cfg, file)
    write_atomically(file, lambda out: out.write(cfg.pretty_text.encode()))
    return None


append_scalars = inspect.unwrap(LocalVisBackend._dump)


@functools.wraps(append_scalars)
def append_scalars_or_say_where(
    backend: LocalVisBackend, values: dict, path: str, *more: str
) -> None:
    """Append losses and metrics to their log."""
    with named_in_errors(path):
        append_scalars(backend, values, path, *more)


def init_worker(worker_id: int, **options: Any) -> None:
    """Seed a process that loads data, and let the system (Linux) end it with its parent.

    torch's would wait for ever to hand over a batch of more than 64 kB that nobody takes, and print
    a traceback where it waits for the next indices.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    # a SIGTERM for all processes of a run is no failure of this one, which torch would report
    signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
    sys.excepthook = _say_unless_parted
    worker_init_fn(worker_id, **options)


def _say_unless_parted(kind: type[BaseException], *details: Any) -> None:
    """Say nothing of a parent that ended while a thread handed a batch over."""
    if not issubclass(kind, EOFError | ConnectionError):
        sys.__excepthook__(kind, *details)


CheckpointLoader.register_scheme(prefixes="", loader=load_from_local, force=True)
CheckpointLoader.register_scheme(("http://", "https://"), loader=load_from_http, force=True)
CheckpointLoader.register_scheme(TIMM, loader=load_from_timm, force=True)
mmengine_checkpoint.load_from_http = load_from_http  # the loaders of model zoos call it
mmengine_checkpoint.torch = TorchThatLoadsSafely()
if hasattr(mmengine_checkpoint, "_safe_torch_load"):  # only the fork has it
    mmengine_checkpoint._safe_torch_load = TorchThatLoadsSafely.load

BaseDataset.prepare_data = prepare_data
BaseDataset._serialize_data = serialize_samples

register_backend("local", AtomicLocalBackend, force=True, prefixes="")
mmengine.hooks.checkpoint_hook.open = AtomicTextFile  # writes last_checkpoint
Config.dump = dump_config_atomically
LocalVisBackend._dump = append_scalars_or_say_where
mmengine.runner.runner.default_worker_init_fn = init_worker

for module in (
    mmengine.utils,
    mmengine.utils.package_utils,
    mmengine.config.config,
    mmengine.hub.hub,
):
    module.is_installed = is_installed
    module.get_installed_path = get_installed_path
Config._get_cfg_path = staticmethod(find_base_and_scope)
MODULE2PACKAGE.setdefault("xcit_dense", "xcit_dense")  # for mmengine.hub

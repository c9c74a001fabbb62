"""Reading config files, and walking their dicts."""

import ast
from argparse import ArgumentParser, Namespace
from collections.abc import Iterator
from difflib import get_close_matches
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from mmengine.config import Config, DictAction

from xcit_dense.errors import UserError

PACKAGES = {"mmdet": "mmdet", "mmseg": "mmsegmentation"}
"""Whose models are trained here, with the names that pip knows."""
_WITH_CONFIGS = (*PACKAGES, "xcit_dense")
CONFIG_HELP = "a file, or mmdet::, mmseg:: or xcit_dense:: and a path among their configs"


class ConfigChanges(DictAction):
    """Reads ``KEY=VALUE`` pairs of a command line, dicts too; others end it with a message."""

    def __call__(
        self, parser: ArgumentParser, namespace: Namespace, values: list[str], option: str
    ) -> None:
        """Add the pairs to what the option has already."""
        try:
            super().__call__(parser, namespace, values, option)
        except (ValueError, SyntaxError, AssertionError) as error:  # no "=", unmatched brackets
            parser.error(f"{option} {' '.join(values)}: expected KEY=VALUE ({error})")

    @staticmethod
    def _parse_iterable(value: str) -> Any:
        return ast.literal_eval(value) if "{" in value else DictAction._parse_iterable(value)


def add_config_changes(parser: ArgumentParser) -> None:
    """Add the option ``--cfg-options``."""
    parser.add_argument(
        "--cfg-options",
        nargs="+",
        action=ConfigChanges,
        metavar="KEY=VALUE",
        help="override values of the config: a.b=1, lists as a.b='[1,2]', dicts as \"a.b={'c':1}\"",
    )


def find_config(name: str) -> Path:
    """The file of a config that a command line names.

    Args:
        name: a path, or a package (``mmdet``, ``mmseg``, ``xcit_dense``), ``::`` and a path among
            the configs that it brings along.

    Raises:
        UserError: there is no such file or package; names similar configs.
    """
    package, separator, inner = name.partition("::")
    if not separator:
        path, similar = Path(name), []
    elif package not in _WITH_CONFIGS or find_spec(package) is None:
        raise UserError(
            f"config {name}: {package!r} must be one of {', '.join(_WITH_CONFIGS)}, and installed"
        )
    else:
        root = configs_of(package)
        path = root / inner
        names = [file.relative_to(root).as_posix() for file in root.rglob("*.py")]
        similar = [f"{package}::{close}" for close in get_close_matches(inner, names, n=3)]
    if not path.is_file():
        hint = f"; similar: {', '.join(similar)}" if similar else ""
        raise UserError(f"config {name} does not exist: looked for {path}{hint}")
    return path


def configs_of(package: str) -> Path:
    """The folder of the configs that a package brings along."""
    return Path(find_spec(package).submodule_search_locations[0]) / ".mim" / "configs"


def read_config(path: str, changes: dict[str, Any] | None = None) -> Config:
    """Read a config file.

    Args:
        path: the file, or a name as :func:`find_config` takes.
        changes: values that override the config's, by their dotted names.

    Raises:
        UserError: there is no such file, its content is no config, cannot be changed so, or is for
            a library that is not installed.
    """
    try:
        cfg = Config.fromfile(find_config(path))
    except UserError:
        raise
    except Exception as error:  # a config is a program, which may fail in any way
        raise UserError(f"config {path}: {type(error).__name__}: {error}") from error
    try:
        cfg.merge_from_dict(changes or {})
    except (ValueError, TypeError, LookupError, AttributeError, AssertionError) as error:
        given = " ".join(f"{name}={value}" for name, value in changes.items())
        raise UserError(f"config {path} cannot be changed by {given}: {error}") from error
    scope = cfg.get("default_scope")
    if scope in PACKAGES and find_spec(scope) is None:
        raise UserError(
            f"config {path} is one of {scope} (default_scope), which is not installed: "
            f"pip install {PACKAGES[scope]}"
        )
    return cfg


def type_name(node: dict) -> str:
    """The class that a dict of a config names, ``ResNet`` for ``mmdet.ResNet``; or nothing.

    Raises:
        UserError: it is something else than a class or its name.
    """
    kind = node.get("type", "")
    name = kind if isinstance(kind, str) else getattr(kind, "__name__", None)
    if name is None:
        raise UserError(f"type={kind!r:.60} in the config must be the name of a class")
    return name.rpartition(".")[2]


def dicts_in(node: Any, path: str = "") -> Iterator[tuple[str, dict]]:
    """Every dict at and below a place of a config, with its path, the outermost first."""
    if isinstance(node, dict):
        yield path, node
        for key, value in node.items():
            yield from dicts_in(value, f"{path}.{key}")
    elif isinstance(node, (list, tuple)):
        for index, value in enumerate(node):
            yield from dicts_in(value, f"{path}.{index}")


def model_scope(cfg: dict) -> str | None:
    """The package that the model of a config is from: as its class says, or the default scope."""
    kind = (cfg.get("model") or {}).get("type", "")
    name = kind if isinstance(kind, str) else f"{kind.__module__}."
    package = name.partition(".")[0] if "." in name else None
    return package if package in PACKAGES else cfg.get("default_scope") or package


def module_prefix(model: dict, path: str) -> str:
    """What names of parameters begin with, of the part of a model that stands at ``path``.

    ``model.detector`` has ``detector.``; but mmdet's semi-supervised models make a student and a
    teacher of their detector, and train the student.
    """
    inner = "model.student" if "semi_train_cfg" in model and path == "model.detector" else path
    return f"{inner}.".removeprefix("model.")


def trained_part(model: dict) -> tuple[dict, str]:
    """What is trained of a model, and where it stands: the detector inside, if it has one."""
    inner = model.get("detector")
    return (inner, "model.detector") if isinstance(inner, dict) else (model, "model")


def unsynchronize(node: Any) -> bool:
    """Make every norm that wants several GPUs a BN, in place; whether there was one."""
    synced = [inner for _, inner in dicts_in(node) if type_name(inner) in ("SyncBN", "MMSyncBN")]
    for inner in synced:
        inner["type"] = "BN"
    return bool(synced)


def innermost_dataset(dataset: dict) -> dict:
    """The data set inside wrappers such as ``RepeatDataset``: the one with files and a pipeline.

    Of several, in a ``ConcatDataset``, it is the first.
    """
    while "dataset" in dataset or dataset.get("datasets"):
        dataset = dataset["dataset"] if "dataset" in dataset else dataset["datasets"][0]
    return dataset

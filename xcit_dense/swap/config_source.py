"""Where a config comes from: a file, or ``mmdet::...`` for one that mmdet brings along."""

import json
import os
from dataclasses import dataclass
from difflib import get_close_matches
from importlib.util import find_spec
from pathlib import Path

from mmengine.config import Config

from xcit_dense.mm.config_tree import PACKAGES

_CONFIGS = ".mim/configs"


@dataclass(frozen=True)
class ConfigSource:
    """A config that another one can inherit from.

    mmengine's own ``mmdet::...`` needs pkg_resources, which new setuptools lack, and puts a scope
    into every dict of the config; so the file is found here.

    Attributes:
        path: its file.
        package: ``mmdet`` or ``mmseg`` if it is one that this package brings along, else None.
    """

    path: Path
    package: str | None = None

    @classmethod
    def find(cls, name: str) -> "ConfigSource":
        """Find the config that a command line names.

        Args:
            name: a path, or ``mmdet::`` or ``mmseg::`` and a path among the package's configs.

        Raises:
            FileNotFoundError: there is no such file or package.
        """
        package, separator, inner = name.partition("::")
        if not separator:
            package, path = None, Path(name)
        elif package not in PACKAGES or find_spec(package) is None:
            raise FileNotFoundError(
                f"config {name}: must begin with one of {', '.join(PACKAGES)}, and that be there"
            )
        else:
            path = configs_of(package) / inner
        if not path.is_file():
            similar = "" if package is None else _similar(package, inner)
            raise FileNotFoundError(f"config {name} does not exist: looked for {path}{similar}")
        return cls(path, package)

    def load(self) -> Config:
        """Read it."""
        return Config.fromfile(self.path)

    def base_expression(self, inheriting: Path) -> str:
        """What to write after ``_base_ =`` in a config that inherits from it.

        A path of the user's becomes relative to the inheriting file, or absolute where that lies
        behind a link: there mmengine reads ``..`` in two ways. One in a package is found from the
        package, wherever that is installed; mmengine evaluates the expression.
        """
        if self.package is None:
            folder, path = os.path.dirname(os.path.abspath(inheriting)), os.path.abspath(self.path)
            if folder == os.path.realpath(folder):
                path = os.path.relpath(path, folder)
            return json.dumps(Path(path).as_posix(), ensure_ascii=False)
        inner = self.path.relative_to(configs_of(self.package)).as_posix()
        return f'__import__("{self.package}").__path__[0] + "/{_CONFIGS}/{inner}"'


def _similar(package: str, inner: str) -> str:
    root = configs_of(package)
    names = [path.relative_to(root).as_posix() for path in root.glob("*/*.py")]
    close = get_close_matches(inner, names, n=3)
    return f"; similar: {', '.join(f'{package}::{name}' for name in close)}" if close else ""


def configs_of(package: str) -> Path:
    """The folder of the configs that a package brings along."""
    return Path(find_spec(package).submodule_search_locations[0]) / _CONFIGS

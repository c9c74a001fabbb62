"""Import hook that supplies the module `mmcv._ext` where no compiled one exists."""

import sys
from collections.abc import Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType

from xcit_dense.mmcv_ops.served import load_served_ops
from xcit_dense.mmcv_ops.unserved import unserved_op

EXTENSION_NAME = "mmcv._ext"


def install() -> None:
    """Makes `import mmcv.ops` work without mmcv's compiled module. Idempotent; imports no mmcv."""
    if not any(isinstance(finder, ExtensionFinder) for finder in sys.meta_path):
        # Last in the row: asked only after every other finder has failed to find the real one.
        sys.meta_path.append(ExtensionFinder())


class ExtensionFinder(MetaPathFinder):
    """Answers for the name `mmcv._ext` and for no other."""

    def find_spec(
        self,
        fullname: str,
        path: Sequence[str] | None,
        target: ModuleType | None = None,
    ) -> ModuleSpec | None:
        """Returns the stand-in's spec for `mmcv._ext`, None for any other name."""
        if fullname != EXTENSION_NAME:
            return None
        return ModuleSpec(fullname, ExtensionLoader(), origin=__package__)


class ExtensionLoader(Loader):
    """Fills the stand-in module with the served ops and a stub for each of the others."""

    def create_module(self, spec: ModuleSpec) -> None:
        """Leaves the making of the empty module to Python."""

    def exec_module(self, module: ModuleType) -> None:
        """Adds the served ops, and the `__getattr__` (PEP 562) that answers for the rest."""
        vars(module).update(load_served_ops(), __getattr__=unserved_op)

"""Stand-in for mmcv's compiled ops, for an mmcv that was installed without them (mmcv-lite).

mmcv-lite ships the Python side of `mmcv.ops` but not the compiled module `mmcv._ext`, so
`import mmcv.ops` fails. After `install()` it succeeds: the ops of the files listed below run on
torchvision's kernels and on plain torch, on CPU and CUDA; every other op raises NotImplementedError
when it is called. Where mmcv has its compiled module, nothing is done.

mmcv hands every op the tensors that it is to fill: `output`, and in a backward one for each
gradient, of the shape of what it is the gradient of. They are 0 before, or all overwritten.

Call `install()` before code that imports `mmcv.ops` inside a try block, because such code remembers
its failure.
"""

import sys
from collections.abc import Callable, Sequence
from importlib import import_module
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from inspect import isfunction
from types import ModuleType
from typing import NoReturn

__all__ = ["install", "served_ops"]

# One a family; their public functions bear the names of those of `mmcv._ext` that they serve.
_FILES_OF_OPS = (
    "border_align",
    "boxes",
    "carafe",
    "deform_conv",
    "focal_loss",
    "masked_conv",
    "ms_deform_attn",
    "psa_mask",
    "roi",
)

# What `mmcv.utils.collect_env` asks for, and what it is told.
_BUILD_QUESTIONS = ("get_compiler_version", "get_compiling_cuda_version")
_BUILD_ANSWER = "n/a (mmcv without compiled ops, some served by xcit_dense)"

_MISSING_OP = (
    "The mmcv op '{name}' is not available: "
    "mmcv was installed without its compiled ops (mmcv-lite). "
    "xcit_dense serves only these in their place: {served}. "
    "For the others, install a full mmcv wheel that matches your torch and CUDA "
    "(pip install -U openmim && mim install mmcv), "
    "or build mmcv from source with MMCV_WITH_OPS=1."
)


def install() -> None:
    """Makes `import mmcv.ops` work without mmcv's compiled module. Idempotent; imports no mmcv."""
    if not any(isinstance(finder, ExtensionFinder) for finder in sys.meta_path):
        # Last in the row: asked only after every other finder has failed to find the real one.
        sys.meta_path.append(ExtensionFinder())


class ExtensionFinder(MetaPathFinder, Loader):
    """Finds and fills `mmcv._ext`, and no other module."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """The stand-in's spec for `mmcv._ext`, None for any other name."""
        return ModuleSpec(fullname, self, origin=__name__) if fullname == "mmcv._ext" else None

    def exec_module(self, module: ModuleType) -> None:
        """Adds the served ops, and the `__getattr__` (PEP 562) that answers for the rest."""
        vars(module).update(served_ops())
        vars(module).update(dict.fromkeys(_BUILD_QUESTIONS, lambda: _BUILD_ANSWER))
        module.__getattr__ = unserved_op


def served_ops() -> dict[str, Callable]:
    """The functions of `mmcv._ext` that work without mmcv's compiled module, by name.

    Only here are they imported, and torchvision with them.
    """
    modules = [import_module(f"{__name__}.{file}") for file in _FILES_OF_OPS]
    return {
        name: function
        for module in modules
        for name, function in vars(module).items()
        if isfunction(function) and function.__module__ == module.__name__ and name[0] != "_"
    }


def unserved_op(name: str) -> Callable[..., NoReturn]:
    """Stub of an op that has no stand-in: it exists, and explains itself when it is called.

    mmcv looks up all its ops while `mmcv.ops` is imported, so a lookup has to succeed.

    Raises:
        AttributeError: for dunder names, which Python's own machinery probes for.
    """
    if name.startswith("__") and name.endswith("__"):
        raise AttributeError(f"module 'mmcv._ext' has no attribute '{name}'")

    def stub(*args: object, **kwargs: object) -> NoReturn:
        raise NotImplementedError(_MISSING_OP.format(name=name, served=", ".join(served_ops())))

    stub.__name__ = stub.__qualname__ = name
    return stub

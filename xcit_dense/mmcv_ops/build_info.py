"""Answers for `mmcv.utils.collect_env`, which asks how the compiled ops were built."""

_NOT_COMPILED = "n/a (mmcv without compiled ops, some served by xcit_dense)"


def get_compiler_version() -> str:
    """Says that no compiler was used."""
    return _NOT_COMPILED


def get_compiling_cuda_version() -> str:
    """Says that no CUDA compiler was used."""
    return _NOT_COMPILED

"""The command lines, one file each; importing one makes mmengine safe to use with its files."""

from xcit_dense import HAS_OPENMMLAB

if HAS_OPENMMLAB:  # convert and curves do without
    import xcit_dense.mm.mmengine_patches
    import xcit_dense.mm.training  # noqa: F401

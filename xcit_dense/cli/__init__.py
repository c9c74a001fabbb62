"""The command lines, one file each; importing one makes mmengine safe to use with its files."""

import xcit_dense.mm.mmengine_patches
import xcit_dense.mm.training  # noqa: F401

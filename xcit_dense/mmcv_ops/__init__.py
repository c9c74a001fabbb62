"""Stand-in for mmcv's compiled ops, for an mmcv that was installed without them (mmcv-lite).

mmcv-lite ships the Python side of `mmcv.ops` but not the compiled module `mmcv._ext`, so
`import mmcv.ops` fails. After `install()` it succeeds: `SERVED_OPS` run on torchvision's kernels
and on plain torch, on CPU and CUDA; every other op raises NotImplementedError when it is called.

Call `install()` before code that imports `mmcv.ops` inside a try block, because such code remembers
its failure. Where mmcv has its compiled module, the adapter does nothing.
"""

from xcit_dense.mmcv_ops.finder import install
from xcit_dense.mmcv_ops.served import SERVED_OPS

__all__ = ["SERVED_OPS", "install"]

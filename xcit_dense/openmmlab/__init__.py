"""Everything that knows OpenMMLab (floor 3); importing it registers what configs name."""

from xcit_dense.openmmlab import mmcv_ops, safe_loading

mmcv_ops.install()  # first: mmcv's own modules look for their ops when they are imported
safe_loading.install()

from xcit_dense.openmmlab.backbone import XCiT  # noqa: E402
from xcit_dense.openmmlab.segmentation_picture_hook import SegmentationPictureHook  # noqa: E402

__all__ = ["SegmentationPictureHook", "XCiT"]

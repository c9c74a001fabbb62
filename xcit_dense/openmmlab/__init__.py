"""Everything that knows OpenMMLab (floor 3); importing it registers what configs name."""

from xcit_dense.openmmlab import mmcv_ops
from xcit_dense.openmmlab.checkpoints import atomic_saving, mmengine_loading, timm_weights

mmcv_ops.install()  # first: mmcv's own modules look for their ops when they are imported
mmengine_loading.install()
atomic_saving.install()
timm_weights.install()

from xcit_dense.openmmlab.backbone import XCiT  # noqa: E402
from xcit_dense.openmmlab.checkpoints import AtomicCheckpointHook  # noqa: E402
from xcit_dense.openmmlab.checkpoints.load_report_hook import LoadReportHook  # noqa: E402
from xcit_dense.openmmlab.segmentation_picture_hook import SegmentationPictureHook  # noqa: E402
from xcit_dense.openmmlab.training import (  # noqa: E402
    CPUDistributedDataParallel,
    FiniteLossHook,
    FullyShardedStrategy,
    LayerDecayOptimWrapperConstructor,
    MixedPrecisionOptimWrapper,
    RepeatableTrainingHook,
    ResumableInfiniteSampler,
    ResumableSampler,
)

__all__ = [
    "AtomicCheckpointHook",
    "CPUDistributedDataParallel",
    "FiniteLossHook",
    "FullyShardedStrategy",
    "LayerDecayOptimWrapperConstructor",
    "LoadReportHook",
    "MixedPrecisionOptimWrapper",
    "RepeatableTrainingHook",
    "ResumableInfiniteSampler",
    "ResumableSampler",
    "SegmentationPictureHook",
    "XCiT",
]

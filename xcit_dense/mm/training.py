"""What our recipes name besides the backbone: importing this registers it with mmengine."""

# ruff: noqa: F401
from xcit_dense.mm.finite_loss_hook import FiniteLossHook
from xcit_dense.mm.fully_sharded import FullyShardedStrategy
from xcit_dense.mm.layer_decay import LayerDecayOptimWrapperConstructor
from xcit_dense.mm.loading import LoadReportHook
from xcit_dense.mm.mixed_precision import MixedPrecisionOptimWrapper
from xcit_dense.mm.repeatable_training import (
    RepeatableTrainingHook,
    ResumableInfiniteSampler,
    ResumableSampler,
)
from xcit_dense.mm.saving import AtomicCheckpointHook

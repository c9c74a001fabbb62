"""How a model is trained: order of the data, precision, learning rates, what stops a run."""

from xcit_dense.openmmlab.training.cpu_processes import CPUDistributedDataParallel
from xcit_dense.openmmlab.training.finite_loss_hook import FiniteLossHook, NonFiniteError
from xcit_dense.openmmlab.training.fully_sharded import FullyShardedStrategy, ShardingError
from xcit_dense.openmmlab.training.layer_decay import LayerDecayOptimWrapperConstructor
from xcit_dense.openmmlab.training.mixed_precision import MixedPrecisionOptimWrapper
from xcit_dense.openmmlab.training.repeatable_training_hook import RepeatableTrainingHook
from xcit_dense.openmmlab.training.resumable_sampler import (
    ResumableInfiniteSampler,
    ResumableSampler,
)

__all__ = [
    "CPUDistributedDataParallel",
    "FiniteLossHook",
    "FullyShardedStrategy",
    "LayerDecayOptimWrapperConstructor",
    "MixedPrecisionOptimWrapper",
    "NonFiniteError",
    "RepeatableTrainingHook",
    "ResumableInfiniteSampler",
    "ResumableSampler",
    "ShardingError",
]

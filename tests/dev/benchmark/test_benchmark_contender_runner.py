"""What a contender's process does, done in this one."""

import pytest
import torch
from dev.benchmark import CONTENDERS, INFERENCE, TRAINING
from dev.benchmark.contender_runner import ContenderRunner, Task
from dev.benchmark.torch_settings import TorchSettings


def runner(mode, name="timm_xcit", dtype="fp32"):
    return ContenderRunner(Task(CONTENDERS[name], mode, "nano_12", 16, dtype, TorchSettings()))


def test_inference_keeps_nothing_and_counts_its_outputs():
    contender = runner(INFERENCE)
    warm_up = contender.warm_up(1, 64, 96, with_outputs=True)
    assert [level.shape for level in warm_up.outputs] == [
        (1, 128, 16, 24),
        (1, 128, 8, 12),
        (1, 128, 4, 6),
        (1, 128, 2, 3),
    ]
    assert warm_up.output_bytes == sum(level.nbytes for level in warm_up.outputs)
    assert contender.measure_memory().kept_bytes is None
    assert contender.time_run() > 0


def test_a_training_step_gives_every_weight_a_gradient_and_release_takes_it():
    contender = runner(TRAINING)
    inference_flops = runner(INFERENCE).warm_up(2, 48, 64, False).flops
    warm_up = contender.warm_up(2, 48, 64, with_outputs=False)
    assert warm_up.outputs is None
    assert 2.8 * inference_flops < warm_up.flops <= 3 * inference_flops
    memory = contender.measure_memory()
    weights = sum(parameter.nbytes for parameter in contender.plain_model.parameters())
    assert memory.peak.bytes > weights  # their gradients alone
    assert memory.kept_bytes > 0
    assert all(parameter.grad is not None for parameter in contender.plain_model.parameters())
    contender.release()
    assert all(parameter.grad is None for parameter in contender.plain_model.parameters())


@pytest.mark.parametrize("mode", [INFERENCE, TRAINING])
def test_other_dtypes_run_by_autocast(mode):
    contender = runner(mode, dtype="bf16")
    levels = []
    contender.plain_model.register_forward_hook(lambda *args: levels.extend(args[2]))
    contender.warm_up(1, 32, 32, with_outputs=False)
    assert levels[0].dtype == torch.bfloat16
    assert contender.plain_model.trunk.blocks[0].attn.qkv.weight.dtype == torch.float32


def test_the_same_seed_gives_the_same_weights():
    first, second = runner(INFERENCE, "xcit_direct"), runner(INFERENCE, "xcit_gram")
    theirs = second.plain_model.state_dict()
    for name, tensor in first.plain_model.state_dict().items():
        assert torch.equal(tensor, theirs[name])

"""What must be in a checkpoint, and what is said where it is not."""

import pytest
import torch
from torch import nn

from xcit_dense.errors import UserError
from xcit_dense.mm.complete_loading import load_complete


def model():
    return nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3))


def everything(name):
    return True


@pytest.mark.parametrize("prefix", ["", "module."])
def test_every_tensor_arrives(prefix):
    source, target = model(), model()
    tensors = {prefix + name: tensor for name, tensor in source.state_dict().items()}
    load_complete(target, {**tensors, "head.weight": torch.ones(1)}, "file.pth", everything)
    for name, tensor in target.state_dict().items():
        torch.testing.assert_close(tensor, source.state_dict()[name])


def test_what_is_missing_is_named():
    tensors = model().state_dict()
    del tensors["1.bias"]
    with pytest.raises(
        UserError,
        match=r"^file\.pth does not fit the config: it lacks 1 of 7 tensors, 1\.bias among them$",
    ):
        load_complete(model(), tensors, "file.pth", everything)


def test_what_is_not_needed_may_be_missing():
    tensors = model().state_dict()
    del tensors["1.bias"], tensors["1.num_batches_tracked"]
    load_complete(model(), tensors, "file.pth", lambda name: name.startswith("0."))


def test_another_shape_is_named():
    tensors = model().state_dict() | {"0.bias": torch.zeros(5)}
    with pytest.raises(UserError, match=r"does not fit the config: .*0\.bias.*\[5\]"):
        load_complete(model(), tensors, "file.pth", everything)

"""The operations of a run are those one counts by hand."""

import pytest
import torch
from dev.benchmark.contenders import CONTENDERS

from xcit_dense.doctor.flops import count_flops


def multiply_adds(*factors):
    return 2 * torch.Size(factors).numel()


def test_operations_of_the_direct_form_by_hand():
    width, depth, heads, images = 32, 4, 2, 3
    arch = dict(embed_dims=width, depth=depth, num_heads=heads, eta=1.0)
    model = CONTENDERS["xcit_direct"].build(arch, 16).eval()
    with torch.no_grad():
        counted, _ = count_flops(lambda: model(torch.randn(images, 3, 64, 64)))

    tokens = images * 4 * 4
    stem = sum(
        multiply_adds(images, side * side, 9, width_in, width_out)
        for side, width_in, width_out in [(32, 3, 4), (16, 4, 8), (8, 8, 16), (4, 16, 32)]
    )
    position = multiply_adds(16, 64, width)  # the codes of rows and columns, once for all images
    block = sum(
        [
            multiply_adds(tokens, width, 3 * width),  # query, key and value
            multiply_adds(tokens, width, width // heads),  # query by key, in each head
            multiply_adds(tokens, width, width // heads),  # attention by value
            multiply_adds(tokens, width, width),  # projection
            2 * multiply_adds(tokens, 9, width),  # depthwise convolutions
            2 * multiply_adds(tokens, width, 4 * width),  # feed-forward network
        ]
    )
    doublings = [tokens, 4 * tokens, tokens]  # twice for stride 4, once for stride 8
    pyramid = sum(multiply_adds(places, 4, width, width) for places in doublings)
    assert counted == stem + position + depth * block + pyramid


def test_backward_counts_too():
    layer = torch.nn.Linear(8, 4)
    image = torch.randn(5, 8, requires_grad=True)
    counted, _ = count_flops(lambda: layer(image).sum().backward())
    assert counted == 3 * multiply_adds(5, 8, 4)


@pytest.mark.parametrize("groups", [1, 8])
@pytest.mark.parametrize("layer", [torch.nn.Conv2d, torch.nn.ConvTranspose2d])
def test_each_gradient_of_a_convolution_counts_as_the_convolution(layer, groups):
    convolution = layer(8, 16, 3, stride=2, padding=1, groups=groups)
    image = torch.randn(2, 8, 10, 10, requires_grad=True)
    forward, result = count_flops(lambda: convolution(image))
    places = min(image[0, 0].numel(), result[0, 0].numel())  # where the window is put
    assert forward == multiply_adds(2, places, 9, 16, 8 // groups)
    backward, _ = count_flops(lambda: result.sum().backward())
    assert backward == 2 * forward


@pytest.mark.parametrize("name", ["xcit_auto", "timm_xcit"])
def test_a_training_step_counts_up_to_three_times_forward(name):
    model = CONTENDERS[name].build("nano_12", 16).train()
    image = torch.randn(2, 3, 64, 64)
    forward, levels = count_flops(lambda: model(image))
    backward, _ = count_flops(lambda: sum(level.mean() for level in levels).backward())
    assert 1.8 * forward < backward <= 2.1 * forward


def test_attention_of_torch_is_seen():
    attention = torch.nn.MultiheadAttention(8, 2, batch_first=True).eval()
    tokens = torch.randn(1, 6, 8)
    with torch.no_grad():
        counted, _ = count_flops(lambda: attention(tokens, tokens, tokens, need_weights=True))
    projections = multiply_adds(6, 8, 4 * 8)
    assert counted == projections + 2 * multiply_adds(6, 6, 8)

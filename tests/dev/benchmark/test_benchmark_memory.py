"""Peak memory and bytes kept for backward are those that can be told in advance."""

import pytest
import torch
from dev.benchmark import peak_memory
from dev.benchmark.kept_for_backward import bytes_kept_for_backward
from dev.benchmark.peak_memory import measure_peak_memory

SIZE = 64 * 2**20  # bytes

needs_reset = pytest.mark.skipif(
    not peak_memory._reset_high_water_mark(), reason="the high-water mark cannot be reset here"
)


def allocate(size=SIZE):
    return torch.ones(size // 4)


@needs_reset
def test_peak_of_a_known_tensor_and_that_alone():
    before = allocate(2 * SIZE)  # in use before: does not count
    for _ in range(2):  # nor does an earlier peak
        peak, result = measure_peak_memory(allocate)
        assert result.nbytes == SIZE
        assert peak.bytes == pytest.approx(SIZE, rel=0.1)
        del result
    assert before[-1] == 1


@needs_reset
def test_peak_counts_what_is_in_use_at_the_same_time():
    peak, _ = measure_peak_memory(lambda: [allocate().sum() for _ in range(3)])
    assert peak.bytes == pytest.approx(SIZE, rel=0.1)
    peak, _ = measure_peak_memory(lambda: sum(tensor[0] for tensor in (allocate(), allocate())))
    assert peak.bytes == pytest.approx(2 * SIZE, rel=0.1)


def test_without_a_reset_the_growth_is_measured_and_said(monkeypatch, tmp_path):
    monkeypatch.setattr(peak_memory, "_CLEAR_REFS", tmp_path / "missing" / "clear_refs")
    peak, _ = measure_peak_memory(lambda: None)
    assert peak.bytes >= 0
    assert "lower bound" in peak.method


def kept(forward, *excluded):
    return bytes_kept_for_backward(forward, excluded)[0]


def test_kept_bytes_of_single_operations():
    x = torch.randn(100, requires_grad=True)
    assert kept(lambda: x + 1) == 0
    assert kept(lambda: x.exp()) == 400  # its result
    assert kept(lambda: x.sin()) == 400  # its input
    assert kept(lambda: x.sin(), x) == 0
    assert kept(lambda: x.sin().exp(), x) == 400
    assert kept(lambda: x.exp().sin()) == 400  # result of the one, input of the other


def test_views_count_once_and_as_their_whole_storage():
    x = torch.randn(10, 10, requires_grad=True)

    def forward():
        whole = x + 1
        return whole[0].sin(), whole[1].sin(), whole.T.sin(), whole.view(-1).sin()

    assert kept(forward) == 400


def test_what_the_graph_has_let_go_does_not_count():
    x = torch.randn(100, requires_grad=True)

    def forward():
        for _ in range(3):
            result = (x + 1).sin()
        return result

    assert kept(forward) == 400


def test_parameters_buffers_and_input_can_be_left_out():
    model = torch.nn.Sequential(torch.nn.Linear(8, 4), torch.nn.GELU(), torch.nn.Linear(4, 2))
    x = torch.randn(5, 8)
    # of the rest: the input of the activation and the input of the second layer
    assert kept(lambda: model(x), x, *model.parameters()) == 2 * (5 * 4 * 4)


def test_the_graph_still_works():
    x = torch.randn(100, requires_grad=True)
    _, result = bytes_kept_for_backward(lambda: x.sin().sum())
    result.backward()
    assert torch.equal(x.grad, x.detach().cos())

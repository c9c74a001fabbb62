"""The check for a GPU, as far as it can be seen without one and within seconds."""

import math

import pytest
import torch
from dev.gpu_check import network_checks
from dev.gpu_check.command import FAIL, NOT_RUN, PASS, main, run_check
from dev.gpu_check.network_checks import check_form, relative_error


def results(found):
    return [row[0] for row in run_check("name", lambda: found)]


def test_findings_are_judged_one_by_one_and_an_error_is_a_failure():
    assert relative_error([torch.tensor([math.nan])], [torch.ones(1)]) == math.inf
    found = [("small", 1.0, 2.0), ("large", 3.0, 2.0), ("lost", math.nan, 2.0)]
    assert results(found) == [PASS, FAIL, FAIL]
    assert [row[0] for row in run_check("no time for it", None)] == [NOT_RUN]
    ((result, _, why, _, _),) = run_check("name", lambda: 1 / 0)
    assert result == FAIL and "ZeroDivisionError" in why


@pytest.mark.parametrize(("form", "dtype"), [("direct", "fp32"), ("gram", "bf16")])
def test_the_network_passes_on_the_cpu(form, dtype):
    assert results(check_form("cpu", "shallow", form, dtype)) == [PASS, PASS]


@pytest.mark.parametrize("parameter", ["attention.temperature", "ffn.fc1.weight"])
def test_a_network_that_is_a_little_wrong_fails(monkeypatch, parameter):
    build = network_checks.random_backbone

    def wrong(arch, form, with_cp=False):
        model = build(arch, form, with_cp)
        if form == "gram":
            model.get_parameter(f"trunk.blocks.2.{parameter}").data.mul_(1.01)
        return model

    monkeypatch.setattr(network_checks, "random_backbone", wrong)
    assert FAIL in results(check_form("cpu", "shallow", "gram", "fp32"))


def test_an_op_that_is_wrong_on_the_device_fails():
    pytest.importorskip("mmdet", reason="the checks with OpenMMLab import its models")
    from dev.gpu_check.openmmlab_checks import check_op

    def op(numbers):
        return numbers * (1.001 if numbers.dtype == torch.float32 else 1)

    assert results(check_op("cpu", op, [torch.rand(9, dtype=torch.float64)])) == [FAIL]
    assert results(check_op("cpu", torch.sin, [torch.rand(9, dtype=torch.float64)])) == [PASS]


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_without_a_gpu_it_says_what_to_do(capsys):
    with pytest.raises(SystemExit):
        main([])
    assert "--device cpu" in capsys.readouterr().err

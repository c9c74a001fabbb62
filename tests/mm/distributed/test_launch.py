"""Starting as one of several processes: what fits, what does not, and who says so."""

import os
from types import SimpleNamespace

import pytest
import torch
from mmengine.config import Config

from xcit_dense.cli.main import run
from xcit_dense.errors import UserError
from xcit_dense.mm import launch
from xcit_dense.mm.launch import VARIABLES, evaluate_whole, say, use_launcher

SHARDED = {"type": "FullyShardedStrategy"}
EMA = [{"type": "EMAHook"}]


@pytest.fixture(autouse=True)
def machine(monkeypatch):
    """A machine without launcher's variables; tests set the device and the number of GPUs."""
    for name in {"TORCHELASTIC_RUN_ID", *sum(VARIABLES.values(), ())}:
        monkeypatch.setenv(name, "")  # so that what the tests set does not stay
        monkeypatch.delenv(name)

    def use(device="cpu", gpus=0, launcher=None, **variables):
        monkeypatch.setattr(launch, "get_device", lambda: device)
        monkeypatch.setattr(torch.cuda, "device_count", lambda: gpus)
        for name in VARIABLES.get(launcher, ()):
            monkeypatch.setenv(name, "1")
        for name, value in variables.items():
            monkeypatch.setenv(name, value)

    use()
    return use


def config(launcher="pytorch", **more):
    return Config({"launcher": launcher, "model": {"type": "XCiT"}, **more})


@pytest.mark.parametrize("launcher", list(VARIABLES))
def test_a_launcher_without_its_variables_is_an_error(launcher):
    with pytest.raises(UserError, match=f"--launcher {launcher}.*Start with: ") as error:
        use_launcher(config(launcher))
    assert all(name in str(error.value) for name in VARIABLES[launcher])


@pytest.mark.parametrize(
    ("cfg", "environment", "remedy"),
    [
        (
            config("none"),
            {"TORCHELASTIC_RUN_ID": "none", "WORLD_SIZE": "2"},
            "2 processes.*add --launcher pytorch",
        ),
        (
            config("pytorch"),
            {"device": "cuda", "gpus": 2, "launcher": "pytorch", "LOCAL_RANK": "2"},
            "number 3 .* sees 2: start fewer",
        ),
        (config("slurm"), {"launcher": "slurm", "SLURM_LOCALID": "0"}, "number 1 .* sees 0"),
        (config("pytorch", strategy=SHARDED, custom_hooks=EMA), {}, "EMAHook.*leave one"),
        (config("none", strategy=SHARDED), {}, "start with torchrun"),
    ],
)
def test_what_does_not_fit_is_an_error(machine, cfg, environment, remedy):
    machine(**environment)
    with pytest.raises(UserError, match=remedy):
        use_launcher(cfg)


def test_a_single_process_of_torchrun_needs_no_option(machine):
    machine(TORCHELASTIC_RUN_ID="none", WORLD_SIZE="1")
    use_launcher(cfg := config("none"))
    assert cfg.to_dict() == config("none").to_dict()


@pytest.mark.parametrize("launcher", ["slurm", "mpi"])
def test_mmengine_learns_the_number_of_the_gpu(machine, launcher):
    machine("cuda", gpus=4, launcher=launcher, **{VARIABLES[launcher][0]: "3"})
    use_launcher(cfg := config(launcher))
    assert os.environ["LOCAL_RANK"] == "3"
    assert cfg.to_dict() == config(launcher).to_dict()


def test_cpus_have_no_number_and_no_synced_norms(machine, capsys):
    machine(launcher="pytorch", LOCAL_RANK="0")
    norms = [{"type": "SyncBN", "requires_grad": True}, {"type": "MMSyncBN"}, {"type": "GN"}]
    cfg = config(model={"heads": norms}, model_wrapper_cfg={"find_unused_parameters": True})
    use_launcher(cfg)
    assert cfg.model_wrapper_cfg.device_ids is None
    assert cfg.model_wrapper_cfg.find_unused_parameters  # the wish of the config
    assert [norm.type for norm in cfg.model.heads] == ["BN", "BN", "GN"]
    assert "SyncBN" in capsys.readouterr().err


def test_evaluation_takes_the_whole_model():
    cfg = config("none", runner_type="FlexibleRunner", strategy=SHARDED, custom_hooks=EMA)
    evaluate_whole(cfg)
    use_launcher(cfg)
    assert cfg.to_dict() == config("none", custom_hooks=EMA).to_dict()


@pytest.mark.parametrize(("rank", "expected"), [("0", "words\n"), ("1", "")])
def test_the_first_process_of_a_machine_speaks(machine, capsys, rank, expected):
    machine(LOCAL_RANK=rank)
    say("words")
    assert capsys.readouterr().err == expected


@pytest.mark.parametrize(
    ("rank", "joined", "speaks"), [("0", False, True), ("1", False, False), ("1", True, True)]
)
def test_errors_are_told_once_until_the_processes_part_ways(
    machine, monkeypatch, rank, joined, speaks
):
    """Before they have joined all fail alike; afterwards one of them may fail alone."""

    def fail():
        raise UserError("the reason")

    machine(LOCAL_RANK=rank)
    monkeypatch.setattr(torch.distributed, "is_initialized", lambda: joined)
    with pytest.raises(SystemExit) as error:
        run(fail)
    assert error.value.code == ("error: the reason" if speaks else 1)


def test_only_the_main_process_logs_a_test(monkeypatch):
    from mmengine.hooks import IterTimerHook, LoggerHook

    hooks = [LoggerHook(), IterTimerHook()]
    runner = SimpleNamespace(hooks=list(hooks))
    launch.log_in_one_process(runner)
    assert runner.hooks == hooks
    monkeypatch.setattr(launch, "is_main_process", lambda: False)
    launch.log_in_one_process(runner)
    assert runner.hooks == hooks[1:]

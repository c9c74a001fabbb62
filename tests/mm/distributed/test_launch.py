"""Starting as one of several processes: what fits, what does not, and who says so."""

import os
import subprocess
import sys
from types import SimpleNamespace

import pytest
import torch
from mmengine.config import Config
from mmengine.hooks import IterTimerHook, LoggerHook

from xcit_dense.cli import train
from xcit_dense.cli.main import run
from xcit_dense.errors import UserError
from xcit_dense.mm import launch
from xcit_dense.mm.launch import LAUNCHERS, use_launcher
from xcit_dense.mm.saving import hold_work_dir

SHARDED = {"type": "FullyShardedStrategy"}
EMA = [{"type": "EMAHook"}]
TORCHRUN = {"RANK": "2", "LOCAL_RANK": "2"}
SLURM = {"SLURM_PROCID": "3", "SLURM_LOCALID": "3"}


@pytest.fixture(autouse=True)
def machine(monkeypatch):
    """A machine without launcher's variables; tests set the device, the GPUs and variables."""
    variables = [name for _, *names in LAUNCHERS.values() for name in names]
    for name in ("TORCHELASTIC_RUN_ID", "WORLD_SIZE", *variables):
        monkeypatch.setenv(name, "")  # so that what the tests set does not stay
        monkeypatch.delenv(name)

    def use(device="cpu", gpus=0, **variables):
        monkeypatch.setattr(launch, "get_device", lambda: device)
        monkeypatch.setattr(torch.cuda, "device_count", lambda: gpus)
        for name, value in variables.items():
            monkeypatch.setenv(name, value)

    use()
    return use


def config(launcher="pytorch", **more):
    return Config({"launcher": launcher, "model": {"type": "XCiT"}, **more})


@pytest.mark.parametrize(
    ("cfg", "environment", "remedy"),
    [
        *((config(name), {}, f"{name}.*{LAUNCHERS[name][2]}.*Start with: ") for name in LAUNCHERS),
        (
            config("none"),
            {"TORCHELASTIC_RUN_ID": "none", "WORLD_SIZE": "2"},
            "2 processes.*add --launcher pytorch",
        ),
        (config("pytorch"), {"device": "cuda", "gpus": 2, **TORCHRUN}, "number 3 .* sees 2: start"),
        (config("slurm"), SLURM, "number 4 .* sees 0"),
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


def test_mmengine_learns_the_number_of_the_gpu(machine):
    machine("cuda", gpus=4, **SLURM)
    use_launcher(cfg := config("slurm"))
    assert os.environ["LOCAL_RANK"] == "3"
    assert cfg.to_dict() == config("slurm").to_dict()


@pytest.mark.parametrize("rank", ["0", "1"])
def test_cpus_have_no_number_and_no_synced_norms(machine, capsys, rank):
    machine(RANK=rank, LOCAL_RANK=rank)
    norms = [{"type": "SyncBN", "requires_grad": True}, {"type": "MMSyncBN"}, {"type": "GN"}]
    cfg = config(model={"heads": norms}, model_wrapper_cfg={"find_unused_parameters": True})
    use_launcher(cfg)
    assert cfg.model_wrapper_cfg.device_ids is None
    assert cfg.model_wrapper_cfg.find_unused_parameters  # the wish of the config
    assert [norm.type for norm in cfg.model.heads] == ["BN", "BN", "GN"]
    assert ("SyncBN" in capsys.readouterr().err) == (rank == "0")


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


@pytest.mark.parametrize(("is_main", "kept"), [(True, 2), (False, 1)])
def test_only_the_main_process_logs_a_test(monkeypatch, is_main, kept):
    monkeypatch.setattr(launch, "is_main_process", lambda: is_main)
    runner = SimpleNamespace(hooks=[LoggerHook(), IterTimerHook()])
    launch.log_in_one_process(runner)
    assert len(runner.hooks) == kept


HOLDS = """
import fcntl, time
file = open(".in_use", "w")
fcntl.lockf(file, fcntl.LOCK_EX)
print("process 7 on host since noon", file=file, flush=True)
print("held", flush=True)
time.sleep(9)
"""


def test_a_work_dir_is_for_one_training(tmp_path, machine):
    in_use = tmp_path / ".in_use"
    cfg = config("none", work_dir=str(tmp_path))
    with subprocess.Popen([sys.executable, "-c", HOLDS], cwd=tmp_path, stdout=-1) as other:
        other.stdout.readline()
        taken = pytest.raises(UserError, match=r"process 7 on host since noon.*--force")
        with taken, hold_work_dir(cfg):
            pass
        with hold_work_dir(cfg, force=True):
            pass
        assert "process 7" in in_use.read_text()
        machine(RANK="1")
        with hold_work_dir(config("pytorch", work_dir=str(tmp_path))):  # not for us to say
            pass
        other.kill()
    assert in_use.exists()
    with pytest.raises(KeyboardInterrupt), hold_work_dir(cfg):
        assert f"process {os.getpid()} on" in in_use.read_text()
        raise KeyboardInterrupt
    assert not in_use.exists()


@pytest.mark.parametrize("force", [True, False])
def test_training_holds_its_work_dir(tmp_path, monkeypatch, force):
    seen = []
    monkeypatch.setattr(train, "prepare", lambda *_, **__: config("none", work_dir=str(tmp_path)))
    monkeypatch.setattr(train, "build_runner", lambda cfg: seen.extend(tmp_path.iterdir()) or 1 / 0)
    with pytest.raises(ZeroDivisionError):
        train.main(["config.py", *["--force"] * force])
    assert [path.name for path in seen] == [".in_use"]

"""Starting as one of several processes: what fits, what does not, and who says so."""

import gc
import re
import socket
from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmengine.registry import MODEL_WRAPPERS
from torch import nn

from xcit_dense.errors import UserError
from xcit_dense.mm import launcher
from xcit_dense.mm.fully_sharded import FullyShardedStrategy, gather, shard, share_like
from xcit_dense.mm.launcher import evaluate_whole, use_launcher
from xcit_dense.mm.launch import part

ROOT = Path(__file__).parents[3]
TRAIN = ROOT / "tools/train.py"
FAILING = """
_base_ = "segmentation.py"
custom_imports = dict(imports=["xcit_dense", "run_commands"], allow_failed_imports=False)
custom_hooks = [*_base_.custom_hooks, dict(type="FailingProcess", rank=1)]
"""
VARIABLES = {name for names in launcher.VARIABLES.values() for name in names}


@pytest.fixture(autouse=True)
def environment(monkeypatch):
    """No launcher's variables, and a machine without GPUs; no process group is left behind."""
    for name in VARIABLES | {"TORCHELASTIC_RUN_ID"}:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(launcher, "get_device", lambda: "cpu")
    yield monkeypatch
    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()


def started_by_torchrun(monkeypatch, local_rank=0):
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    values = {
        "LOCAL_RANK": local_rank, "RANK": 0, "WORLD_SIZE": 1, "MASTER_ADDR": "localhost",
        "MASTER_PORT": port,
    }  # fmt: skip
    for name, value in values.items():
        monkeypatch.setenv(name, str(value))


def threads_of_gloo():
    names = [path.read_text() for path in Path("/proc/self/task").glob("*/comm")]
    return sum(name.startswith("pt_gloo") for name in names)


def config(launcher="pytorch", **more):
    env_cfg = {"dist_cfg": {"backend": "nccl"}}
    return Config({"launcher": launcher, "env_cfg": env_cfg, **more})


class TestVariables:
    @pytest.mark.parametrize(
        ("name", "missing", "command"),
        [
            ("pytorch", "LOCAL_RANK, RANK, WORLD_SIZE, MASTER_ADDR, MASTER_PORT", "torchrun --np"),
            ("slurm", "SLURM_LOCALID, SLURM_PROCID, SLURM_NTASKS, SLURM_NODELIST", "srun --nta"),
            ("mpi", "OMPI_COMM_WORLD_LOCAL_RANK, OMPI_COMM_WORLD_RANK, MASTER_ADDR", "mpirun -n"),
        ],
    )
    def test_a_launcher_without_its_variables_is_an_error(self, name, missing, command):
        expected = f"--launcher {name}: the launcher's variables {missing} are not set. Start with"
        with pytest.raises(UserError, match=f"^{re.escape(expected)}: {command}"):
            use_launcher(config(name))

    def test_torchrun_without_the_option_is_an_error(self, environment):
        environment.setenv("TORCHELASTIC_RUN_ID", "none")
        environment.setenv("WORLD_SIZE", "2")
        expected = r"^torchrun has started 2 processes, .* alone: add --launcher pytorch$"
        with pytest.raises(UserError, match=expected):
            use_launcher(config("none"))

    def test_a_single_process_of_torchrun_needs_no_option(self, environment):
        environment.setenv("TORCHELASTIC_RUN_ID", "none")
        environment.setenv("WORLD_SIZE", "1")
        cfg = config("none")
        use_launcher(cfg)
        assert cfg.to_dict() == config("none").to_dict()

    @pytest.mark.parametrize(
        ("name", "variable"),
        [("slurm", "SLURM_LOCALID"), ("mpi", "OMPI_COMM_WORLD_LOCAL_RANK")],
    )
    def test_mmengine_learns_the_number_of_the_gpu(self, environment, name, variable):
        environment.setattr(launcher, "get_device", lambda: "cuda")
        environment.setattr(torch.cuda, "device_count", lambda: 4)
        environment.setenv("LOCAL_RANK", "0")
        for other in launcher.VARIABLES[name]:
            environment.setenv(other, "1")
        environment.setenv(variable, "3")
        use_launcher(config(name))
        assert launcher.os.environ["LOCAL_RANK"] == "3"

    def test_more_processes_than_gpus_are_an_error(self, environment):
        environment.setattr(launcher, "get_device", lambda: "cuda")
        environment.setattr(torch.cuda, "device_count", lambda: 2)
        started_by_torchrun(environment, local_rank=2)
        expected = "^every process takes a GPU; this one is number 3 on its machine and sees 2"
        with pytest.raises(UserError, match=expected):
            use_launcher(config())


class TestCPUs:
    @pytest.mark.parametrize("name", ["slurm", "mpi"])
    def test_other_launchers_are_an_error(self, environment, name):
        for variable in launcher.VARIABLES[name]:
            environment.setenv(variable, "0")
        expected = f"^--launcher {name}: no GPU was found; on CPUs only torchrun works: torchrun"
        with pytest.raises(UserError, match=expected):
            use_launcher(config(name))

    def test_processes_talk_by_gloo(self, environment):
        started_by_torchrun(environment)
        cfg = config()
        use_launcher(cfg)
        assert torch.distributed.get_backend() == "gloo"
        assert cfg.env_cfg.dist_cfg.backend == "gloo"
        assert cfg.model_wrapper_cfg == {
            "type": "CPUDistributedDataParallel", "broadcast_buffers": False,
            "find_unused_parameters": False, "device_ids": None,
        }  # fmt: skip

    def test_wishes_of_the_config_are_kept(self, environment):
        started_by_torchrun(environment)
        cfg = config(model_wrapper_cfg={"type": "Mine", "find_unused_parameters": True})
        use_launcher(cfg)
        assert cfg.model_wrapper_cfg.type == "Mine"
        assert cfg.model_wrapper_cfg.find_unused_parameters

    @pytest.mark.parametrize(
        "chosen", [{"runner_type": "FlexibleRunner"}, {"strategy": {"type": "DDPStrategy"}}]
    )
    def test_the_flexible_runner_wraps_by_its_strategy(self, environment, chosen):
        started_by_torchrun(environment)
        cfg = config(**chosen)
        use_launcher(cfg)
        assert cfg.strategy.type == "DDPStrategy"
        assert cfg.strategy.model_wrapper.type == "CPUDistributedDataParallel"
        assert "model_wrapper_cfg" not in cfg

    def test_synced_norms_become_plain_ones(self, environment):
        started_by_torchrun(environment)
        use_launcher(cfg := config())
        model = nn.Sequential(nn.Conv2d(3, 4, 1), nn.SyncBatchNorm(4), nn.SyncBatchNorm(4))
        weights = model.state_dict()
        wrapped = MODEL_WRAPPERS.build({**cfg.model_wrapper_cfg, "module": model})
        assert not any(isinstance(m, nn.SyncBatchNorm) for m in wrapped.modules())
        wrapped(torch.rand(2, 3, 4, 4)).sum().backward()
        after = wrapped.module.state_dict()
        assert after.keys() == weights.keys()
        assert torch.equal(after["0.weight"], weights["0.weight"])


class TestParting:
    def test_no_thread_of_the_group_is_left(self, environment):
        """One that has a tensor to free when Python ends aborts the process."""
        gc.collect()  # groups of other tests
        before = threads_of_gloo()
        started_by_torchrun(environment)
        use_launcher(cfg := config())
        model = MODEL_WRAPPERS.build({**cfg.model_wrapper_cfg, "module": nn.Linear(2, 2)})
        model(torch.rand(1, 2)).sum().backward()
        model.itself = [model]  # models of mm's refer to themselves in circles, too
        del model
        assert threads_of_gloo() > before
        part()
        assert threads_of_gloo() == before
        assert not torch.distributed.is_initialized()

    def test_one_process_alone_has_nobody_to_part_from(self):
        part()
        assert not torch.distributed.is_initialized()


class TestSharding:
    def test_a_moving_average_is_an_error(self):
        strategy = {"type": "FullyShardedStrategy"}
        cfg = config("none", strategy=strategy, custom_hooks=[{"type": "EMAHook"}])
        with pytest.raises(UserError, match=r"^custom_hooks has an EMAHook, .* leave one"):
            use_launcher(cfg)

    def test_evaluation_takes_the_whole_model(self):
        hooks = [{"type": "EMAHook"}]
        strategy = {"type": "FullyShardedStrategy"}
        cfg = config("none", runner_type="FlexibleRunner", strategy=strategy, custom_hooks=hooks)
        evaluate_whole(cfg)
        use_launcher(cfg)
        assert cfg.to_dict() == config("none", custom_hooks=hooks).to_dict()

    def test_a_single_process_is_an_error(self, tmp_path):
        strategy = FullyShardedStrategy(work_dir=str(tmp_path), env_kwargs={"launcher": "none"})
        with pytest.raises(UserError, match=r"divides a model among processes, and this is a"):
            strategy.prepare(nn.Linear(2, 2), optim_wrapper={"optimizer": {"type": "SGD"}})

    def test_a_model_without_xcit_is_an_error(self, environment):
        started_by_torchrun(environment)
        use_launcher(config())
        with pytest.raises(UserError, match=r"^Sequential has no XCiT inside"):
            shard(nn.Sequential(nn.Linear(2, 2)), "cpu", 1)

    def test_what_is_gathered_is_plain(self):
        tree = {"state": [{"step": torch.tensor(3.0)}, {}], "lr": 0.1, "betas": (0.9, 0.99)}
        assert gather(tree) == tree

    def test_values_without_shares_come_back(self):
        step, plain = torch.tensor(3.0), nn.Parameter(torch.zeros(2))
        assert share_like(plain, step) is step
        assert share_like(plain, 5) == 5


def test_an_error_of_one_process_ends_all_with_one_line(torchrun, arguments, root):
    """The other one waits for it in vain, and is ended by torchrun."""
    (root / "failing.py").write_text(FAILING)
    finished = torchrun(TRAIN, *arguments(root, "failing", "failing"))
    assert finished.returncode == 1, finished.stderr[-3000:]
    printed = finished.stdout + finished.stderr
    assert printed.count("error: process 1 lost its data") == 1

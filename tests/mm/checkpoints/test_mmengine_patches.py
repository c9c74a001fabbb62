"""Whatever way mmengine takes to a checkpoint, no code in it runs; downloads are whole."""

import os
import re
import sys
import threading
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from types import ModuleType, SimpleNamespace

import pytest
import torch
from mmengine.logging import HistoryBuffer
from mmengine.model import BaseModule
from mmengine.runner import CheckpointLoader
from mmengine.runner import checkpoint as mmengine_checkpoint

import xcit_dense  # noqa: F401
from xcit_dense.errors import UserError
from xcit_dense.weights.checkpoint_error import (
    DamagedCheckpointError,
    UnsafeCheckpointError,
)


class RunsCommand:
    """Unpickled without protection, runs a command."""

    def __init__(self, command):
        self.command = command

    def __reduce__(self):
        return os.system, (self.command,)


@pytest.fixture
def folder(tmp_path):
    """A folder with what a server offers: a good file, a hostile one, one that is cut short."""
    folder = tmp_path / "served"
    folder.mkdir()
    good = {"state_dict": {"backbone.w": torch.ones(1)}, "hub": HistoryBuffer([0.5], [1])}
    torch.save(good, folder / "good.pth")
    torch.save({"meta": RunsCommand(f"touch {tmp_path}/trace")}, folder / "hostile.pth")
    (folder / "short.pth").write_bytes((folder / "good.pth").read_bytes()[:-100])
    return folder


@pytest.fixture
def address(folder, tmp_path, monkeypatch):
    """The address of a server of this machine, and an empty cache."""
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path / "hub"))
    requests = []

    class Handler(SimpleHTTPRequestHandler):
        def __init__(self, *args):
            super().__init__(*args, directory=str(folder))

        def log_message(self, *args):
            requests.append(self.path)

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=[0.01])
        thread.start()
        url = f"http://127.0.0.1:{server.server_port}"
        try:
            yield SimpleNamespace(url=url, requests=requests, cache=tmp_path / "hub/checkpoints")
        finally:
            server.shutdown()
            thread.join()


@pytest.fixture
def schemes(folder, address, monkeypatch, tmp_path):
    """A function from scheme and file name to a path of that scheme which leads to the file."""
    urls = {name: f"{address.url}/{name}" for name in ("good.pth", "hostile.pth")}
    for models in ("torchvision_models", "external_models", "mmcls_models"):
        monkeypatch.setattr(mmengine_checkpoint, f"get_{models}", lambda: urls)
    store = SimpleNamespace(get=lambda path: (folder / os.path.basename(path)).read_bytes())
    monkeypatch.setattr(mmengine_checkpoint, "get_file_backend", lambda *_, **__: store)

    def download(name):
        content = (folder / name).read_bytes()
        save = lambda path: open(path, "wb").write(content)  # noqa: E731, SIM115
        return SimpleNamespace(name=name, download=save)

    pavi = ModuleType("pavi")
    pavi.modelcloud = SimpleNamespace(get=download)
    monkeypatch.setitem(sys.modules, "pavi", pavi)

    def path(scheme, name):
        if scheme == "open-mmlab, a file":
            monkeypatch.setenv("MMENGINE_HOME", str(folder))
            monkeypatch.setattr(mmengine_checkpoint, "get_external_models", lambda: {name: name})
            return f"open-mmlab://{name}"
        where = {"": f"{folder}/", "http://": f"{address.url}/"}
        return where.get(scheme, scheme) + name

    return path


SCHEMES = [
    "", "http://", "torchvision://", "modelzoo://", "open-mmlab://", "openmmlab://", "mmcls://",
    "s3://bucket/", "petrel://bucket/", "cluster:s3://bucket/", "pavi://", "open-mmlab, a file",
]  # fmt: skip


def test_every_scheme_of_mmengine_is_tried():
    known = {re.sub(r"^\(\\S\+\\:\)\?", "", prefix) for prefix in CheckpointLoader._schemes}
    tried = {re.sub(r"(?<=//).*|, a file$", "", scheme) for scheme in SCHEMES}
    assert known - {"https://", "timm://"} <= tried  # https is http; timm fetches by itself


@pytest.mark.parametrize("scheme", SCHEMES)
def test_a_hostile_file_is_refused(scheme, schemes, tmp_path):
    with pytest.raises(UnsafeCheckpointError, match=r"refused.*posix\.system"):
        CheckpointLoader.load_checkpoint(schemes(scheme, "hostile.pth"), "cpu")
    assert not (tmp_path / "trace").exists()


@pytest.mark.parametrize("scheme", SCHEMES)
def test_a_checkpoint_of_mmengine_loads(scheme, schemes):
    loaded = CheckpointLoader.load_checkpoint(schemes(scheme, "good.pth"), "cpu")
    assert next(iter(loaded["state_dict"].values())).tolist() == [1]


def test_init_cfg_is_safe_too(folder, tmp_path):
    module = BaseModule({"type": "Pretrained", "checkpoint": str(folder / "hostile.pth")})
    with pytest.raises(UnsafeCheckpointError):
        module.init_weights()
    assert not (tmp_path / "trace").exists()


def test_a_config_in_python_is_left_out(tmp_path):
    """mmengine runs it when it resumes."""
    torch.save({"meta": {"config": "import os", "epoch": 1}}, tmp_path / "old.pth")
    assert CheckpointLoader.load_checkpoint(str(tmp_path / "old.pth"))["meta"] == {"epoch": 1}


class TestDownloads:
    def test_a_file_is_fetched_once(self, address):
        for _ in range(2):
            CheckpointLoader.load_checkpoint(f"{address.url}/good.pth", "cpu")
        assert address.requests == ["/good.pth"]
        assert [path.name for path in address.cache.iterdir()] == ["good.pth"]

    def test_a_file_that_comes_in_part_is_not_kept(self, address, folder):
        url = f"{address.url}/short.pth"
        with pytest.raises(DamagedCheckpointError, match=rf"{url}: fetched in part, try again"):
            CheckpointLoader.load_checkpoint(url, "cpu")
        assert list(address.cache.iterdir()) == []

    def test_a_damaged_file_in_the_cache_is_named(self, address, folder):
        CheckpointLoader.load_checkpoint(f"{address.url}/good.pth", "cpu")
        cached = address.cache / "good.pth"
        cached.write_bytes(cached.read_bytes()[:500])
        expected = rf"{cached}: damaged.*once fetched from {address.url}/good\.pth: remove it"
        with pytest.raises(DamagedCheckpointError, match=expected):
            CheckpointLoader.load_checkpoint(f"{address.url}/good.pth", "cpu")

    @pytest.mark.parametrize("name", ["/no.pth", ":1/good.pth"])
    def test_what_cannot_be_fetched(self, address, name):
        url = address.url.rsplit(":", 1)[0] + name if name.startswith(":") else address.url + name
        with pytest.raises(UserError, match=rf"^{url}: cannot be fetched .* put it at "):
            CheckpointLoader.load_checkpoint(url, "cpu")

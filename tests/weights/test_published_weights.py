"""The table of published weights, and fetching them: whole or not at all, once."""

import threading
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from types import SimpleNamespace

import pytest
import timm
import torch

from xcit_dense.errors import UserError
from xcit_dense.network.architectures import ARCHS
from xcit_dense.weights.published_weights import (
    load_from_http,
    load_from_timm,
    published_kinds,
    published_url,
    published_urls,
)

SUPERVISED = ["224", "224_dist", "384_dist"]


def test_the_table_has_three_supervised_kinds_of_every_backbone_and_four_of_dino():
    supervised = {(arch, size, kind) for arch in ARCHS for size in (8, 16) for kind in SUPERVISED}
    dino = {(arch, size, "dino") for arch in ("small_12", "medium_24") for size in (8, 16)}
    assert published_urls().keys() == supervised | dino
    assert published_kinds() == [*SUPERVISED, "dino"]


def test_the_urls_of_the_supervised_kinds_are_those_that_timm_knows():
    """Two independent sources; neither link was followed."""
    ours = {url for (_, _, kind), url in published_urls().items() if kind != "dino"}
    names = timm.list_models("xcit_*", pretrained=True)
    assert ours == {timm.get_pretrained_cfg(name).url for name in names}


def test_the_url_for_a_backbone():
    release = "https://dl.fbaipublicfiles.com/xcit"
    assert published_url("384_dist", "large_24", 8) == f"{release}/xcit_large_24_p8_384_dist.pth"
    assert published_url("dino", "small_12", 16) == f"{release}/xcit_small_12_cp16_dino.pth"


@pytest.mark.parametrize(
    ("kind", "arch", "message"),
    [
        ("dino", "tiny_12", r"'dino'.*arch='tiny_12', patch_size=8.*224, 224_dist, 384_dist"),
        ("224", "huge", "'huge'.*none"),
        ("224", {"embed_dims": 16}, "arch of your own"),
    ],
)
def test_what_is_not_published(kind, arch, message):
    with pytest.raises(UserError, match=message):
        published_url(kind, arch, 8)


@pytest.fixture
def server(tmp_path, monkeypatch):
    """A server of this machine with a good file and one that is cut short; and an empty cache."""
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path / "hub"))
    folder, requests = tmp_path / "served", []
    folder.mkdir()
    torch.save({"w": torch.ones(9)}, folder / "good.pth")
    (folder / "short.pth").write_bytes((folder / "good.pth").read_bytes()[:-100])

    class Handler(SimpleHTTPRequestHandler):
        def __init__(self, *args):
            super().__init__(*args, directory=str(folder))

        def log_message(self, *args):
            requests.append(self.path)

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as http:
        thread = threading.Thread(target=http.serve_forever, args=[0.01])
        thread.start()
        url = f"http://127.0.0.1:{http.server_port}"
        yield SimpleNamespace(url=url, requests=requests, cache=tmp_path / "hub/checkpoints")
        http.shutdown()
        thread.join()


class TestUrls:
    def test_a_file_is_fetched_once(self, server):
        for _ in range(2):
            assert load_from_http(f"{server.url}/good.pth")["w"].tolist() == [1] * 9
        assert server.requests == ["/good.pth"]
        assert [path.name for path in server.cache.iterdir()] == ["good.pth"]

    def test_a_file_that_comes_in_part_is_not_kept(self, server):
        with pytest.raises(UserError, match=rf"damaged.*{server.url}/short\.pth.*try again"):
            load_from_http(f"{server.url}/short.pth")
        assert list(server.cache.iterdir()) == []

    def test_a_damaged_file_in_the_cache_is_named_and_stays(self, server):
        load_from_http(f"{server.url}/good.pth")
        cached = server.cache / "good.pth"
        cached.write_bytes(cached.read_bytes()[:500])
        with pytest.raises(UserError, match=rf"{cached}: damaged.*remove it"):
            load_from_http(f"{server.url}/good.pth")
        assert cached.exists()

    @pytest.mark.parametrize("url", ["{}/missing.pth", "http://127.0.0.1:1/good.pth"])
    def test_what_cannot_be_fetched(self, url, server):
        url = url.format(server.url)
        with pytest.raises(UserError, match=rf"{url}: cannot be fetched.*{server.cache}"):
            load_from_http(url)


class TestTimm:
    def test_an_unknown_name_is_an_error_that_names_similar_ones(self):
        with pytest.raises(UserError, match=r"p61_384\.fb_dist_in1k.*xcit_small_12_p16_384\.fb_d"):
            load_from_timm("timm://xcit_small_12_p61_384.fb_dist_in1k")

    def test_weights_that_cannot_be_fetched(self, monkeypatch):
        def fetch(*_, **__):
            raise ConnectionError("no route to host")

        monkeypatch.setattr(timm.models._builder, "load_state_dict_from_hf", fetch)
        with pytest.raises(UserError, match=r"xcit_nano_12_p16_224.*no route to host"):
            load_from_timm("timm://xcit_nano_12_p16_224")

"""The table of published weights, and fetching them: whole or not at all, once."""

import shutil

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
    names = timm.list_models("xcit_*", pretrained=True, exclude_filters="xcit_dense_*")
    assert ours == {timm.get_pretrained_cfg(name).url for name in names}


def test_the_url_for_a_backbone():
    assert published_url("dino", "small_12", 16).endswith("/xcit/xcit_small_12_cp16_dino.pth")


@pytest.mark.parametrize(
    ("kind", "arch", "message"),
    [
        ("dino", "tiny_12", r"'dino'.*arch='tiny_12', patch_size=8.*224, 224_dist, 384_dist"),
        ("224", "huge", "'huge'.*none"),
        ("224", {"embed_dims": 16}, r"embed_dims.*none"),
    ],
)
def test_what_is_not_published(kind, arch, message):
    with pytest.raises(UserError, match=message):
        published_url(kind, arch, 8)


@pytest.fixture
def served(tmp_path, monkeypatch):
    """A folder whose files can be fetched from example.invalid, each once, into an empty cache."""
    folder, fetched = tmp_path / "served", set()
    folder.mkdir()
    torch.save({"w": torch.ones(9)}, folder / "good.pth")
    (folder / "short.pth").write_bytes((folder / "good.pth").read_bytes()[:-100])

    def fetch(url, target, progress):
        name = url.removeprefix("https://example.invalid/")
        assert name not in fetched
        shutil.copy(folder / name, target)
        fetched.add(name)

    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path / "hub"))
    monkeypatch.setattr(torch.hub, "download_url_to_file", fetch)
    return tmp_path / "hub/checkpoints"


class TestUrls:
    GOOD = "https://example.invalid/good.pth"

    def test_a_file_is_fetched_once(self, served):
        for _ in range(2):
            assert load_from_http(self.GOOD)["w"].tolist() == [1] * 9
        assert [path.name for path in served.iterdir()] == ["good.pth"]

    def test_a_file_that_comes_in_part_is_not_kept(self, served):
        url = "https://example.invalid/short.pth"
        with pytest.raises(UserError, match=rf"damaged.*{url}.*try again"):
            load_from_http(url)
        assert list(served.iterdir()) == []

    def test_a_damaged_file_in_the_cache_is_named_and_stays(self, served):
        load_from_http(self.GOOD)
        (served / "good.pth").write_bytes(b"damaged")
        with pytest.raises(UserError, match=rf"{served}/good\.pth: damaged.*remove it"):
            load_from_http(self.GOOD)
        assert (served / "good.pth").read_bytes() == b"damaged"

    def test_what_cannot_be_fetched(self, served):
        url = "https://example.invalid/missing.pth"
        with pytest.raises(UserError, match=rf"{url}: cannot be fetched.*{served}"):
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

"""Addresses of timm's weights: errors; that they load is in test_formats_that_load.py."""

import pytest
import timm
from mmengine.runner import CheckpointLoader

from xcit_dense.errors import UserError


@pytest.mark.parametrize(
    ("name", "close"),
    [
        ("xcit_small_12_p61_384.fb_dist_in1k", "xcit_small_12_p16_384.fb_dist_in1k"),
        ("xcit_smal_12_p8_224", "xcit_small_12_p8_224"),
    ],
)
def test_an_unknown_name_is_an_error_that_lists_close_ones(name, close):
    with pytest.raises(UserError, match=f"timm://{name}: timm has no .* close to it: .*{close}"):
        CheckpointLoader.load_checkpoint(f"timm://{name}")


def test_a_name_like_no_other():
    with pytest.raises(UserError, match=r"timm.list_pretrained\(\) lists them"):
        CheckpointLoader.load_checkpoint("timm://???")


def test_weights_that_cannot_be_fetched(monkeypatch):
    def fetch(*_, **__):
        raise ConnectionError("no route to host")

    monkeypatch.setattr(timm.models._builder, "load_state_dict_from_hf", fetch)
    with pytest.raises(UserError, match=r"_224: timm cannot fetch .*\(no route to host\)"):
        CheckpointLoader.load_checkpoint("timm://xcit_nano_12_p16_224")

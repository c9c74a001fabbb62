"""The tools on real images, where they lie beside the project; else skipped."""

import os
from pathlib import Path

import cv2
import pytest

from xcit_dense.cli import attention as visualize_attention
from xcit_dense.cli import browse as browse_dataset
from xcit_dense.cli import predict

PROJECT = Path(__file__).parents[2]
DATA = Path(os.environ.get("XCIT_DENSE_TEST_DATA", PROJECT.parent / "shared/data"))
COCO, ADE = DATA / "coco-tiny", DATA / "ade-tiny/ADEChallengeData2016"

pytestmark = pytest.mark.skipif(
    not (COCO.is_dir() and ADE.is_dir()),
    reason=f"needs coco-tiny and ade-tiny at {DATA} (XCIT_DENSE_TEST_DATA moves them)",
)


@pytest.fixture
def photographs():
    return sorted(map(str, (COCO / "val2017").iterdir()))[:3]


@pytest.mark.parametrize("kind", ["detector", "segmentor"])
def test_predictions(kind, photographs, request, tmp_path):
    model = request.getfixturevalue(kind)
    small = "test_dataloader.dataset.pipeline.1.scale=(99,99)"
    options = ["--cfg-options", small] if kind == "detector" else []
    code = predict.main(
        [model.config, model.checkpoint, *photographs, "--out", str(tmp_path), *options]
    )
    assert code == 0
    pictures = sorted((tmp_path / "pictures").iterdir())
    assert [path.stem for path in pictures] == [Path(path).stem for path in photographs]
    for picture, photograph in zip(pictures, photographs, strict=True):
        assert cv2.imread(str(picture)).shape == cv2.imread(photograph).shape


@pytest.mark.parametrize(
    ("config", "root"), [("xcit_maskrcnn_coco.py", COCO), ("xcit_upernet_ade20k.py", ADE)]
)
def test_what_the_recipes_feed(config, root, tmp_path):
    arguments = [f"{PROJECT}/configs/{config}", "--data-root", str(root), "--number", "3"]
    browse_dataset.main([*arguments, "--out", str(tmp_path)])
    assert len(list(tmp_path.iterdir())) == 3


def test_attention(detector, photographs, tmp_path):
    out = tmp_path / "attention.png"
    visualize_attention.main(
        [detector.config, detector.checkpoint, photographs[0], "--out", str(out), "--blocks", "3"]
    )
    assert cv2.imread(str(out)).std() > 0

"""How the images are normalized: as for the weights of XCiT."""

from xcit_dense.mm.config_tree import dicts_in, type_name

# Source: ImageNet statistics as in torchvision and in the XCiT paper's release, RGB, 0 to 255.
IMAGENET = {
    "mean": [123.675, 116.28, 103.53],
    "std": [58.395, 57.12, 57.375],
    "bgr_to_rgb": True,
}
# preprocessors that hand the images on to one inside
_WRAPPERS = ("MultiBranchDataPreprocessor",)
_IMAGE_KEYS = {*IMAGENET, "rgb_to_bgr", "pad_size_divisor", "size"}


def normalize_as_imagenet(cfg: dict) -> list[str]:
    """Set mean, deviation and channel order of every data preprocessor of a config, in place.

    Preprocessors of images with other than three channels stay as they are, and so do those behind
    a pipeline that normalizes.

    Returns:
        What was changed, one sentence each.
    """
    loaders = [cfg.get(key) for key in ("train_dataloader", "test_dataloader")]
    if any(type_name(node) == "Normalize" for _, node in dicts_in(loaders)):
        return ["The pipeline normalizes, as before; XCiT's weights expect ImageNet's RGB."]
    if any(_is_xcit_of_other_images(node) for _, node in dicts_in(cfg["model"])):
        return []
    notes = []
    places = [("data_preprocessor", cfg.get("data_preprocessor"))]
    places += [
        (f"{path}.data_preprocessor", node.get("data_preprocessor"))
        for path, node in dicts_in(cfg["model"], "model")
    ]
    for path, preprocessor in places:
        if isinstance(preprocessor, dict) and _normalizes_otherwise(preprocessor):
            preprocessor.update(IMAGENET)
            if preprocessor.get("rgb_to_bgr"):
                preprocessor["rgb_to_bgr"] = False
            notes.append(f"{path} normalizes as ImageNet, RGB, which XCiT's weights expect.")
    return notes


def _is_xcit_of_other_images(node: dict) -> bool:
    return type_name(node) == "XCiT" and node.get("in_channels", 3) != 3


def _normalizes_otherwise(preprocessor: dict) -> bool:
    if type_name(preprocessor) in _WRAPPERS or len(preprocessor.get("mean") or [0] * 3) != 3:
        return False
    if not _IMAGE_KEYS & preprocessor.keys():  # leaves the images to a nested model
        return False
    return any(_plain(preprocessor.get(key)) != value for key, value in IMAGENET.items())


def _plain(value: object) -> object:
    return list(value) if isinstance(value, tuple) else value

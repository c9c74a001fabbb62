"""What is known of mm's own classes by their names: the one table of exceptions.

A class that is not named here is taken as its config describes it: a neck or head reads the levels
that ``in_channels``, ``in_index``, ``start_level`` and ``end_level`` tell. Two necks that hand on
what they read take more than a name: JPU and SSDNeck have functions in ``swap/readers.py``.
"""

# Backbones and weights

BOUND_BACKBONES = {
    "BiSeNetV1": "its spatial path and its attention refinement are what BiSeNet is",
    "BiSeNetV2": "its detail and semantic branches, each with losses of its own, are the model",
    "CGNet": "it is the whole segmentor; the head only classifies its pixels",
    "DDRNet": "its two branches of different resolution are the model, and the head needs both",
    "ERFNet": "it is an encoder and a decoder; the head only classifies its pixels",
    "FastSCNN": "its learning-to-downsample branch and its fusion are the model",
    "HourglassNet": "its stacked hourglasses, each supervised by heads of its own, are the model",
    "ICNet": "it runs at three image sizes, and its neck and heads join these",
    "PIDNet": "its three branches, each with losses of its own, are the model",
    "STDCContextPathNet": "its context path and detail guidance are the model",
    "TridentResNet": "its three branches of different dilation are the model",
    "UNet": "it is an encoder and a decoder; its last maps are already fine",
    "VPD": "it is a diffusion model with a text prompt",
}
"""Backbones that are more than backbones, so that no other can take their place, and why."""

DOWNLOADING_BACKBONES = ("TIMMBackbone",)
"""Load pretrained weights unless they are told ``pretrained=None``."""

KEYS_OF_WEIGHTS = ("pretrained", "teacher_ckpt")
"""Settings that name weights, beside ``init_cfg``."""

# Necks

BOUND_NECKS = {
    "RFP": "it feeds its maps back into a second DetectoRS backbone (rfp_backbone)",
    "NASFCOS_FPN": "it looks at four levels by number and learns from three, so that one of XCiT's "
    "would have weights without gradients",
    "GlobalAveragePooling": "the model embeds whole images: it needs no dense backbone",
}
"""Necks that fit no backbone but the one that they have, and why."""

COARSE_TO_FINE_NECKS = ("YOLOV3Neck",)
"""Their first entry is for the last level."""

NECKS_THAT_STOP_BEFORE_END_LEVEL = ("JPU",)
"""They do not read the level that ``end_level`` names. mmdet's do; FPN differs by package."""

PYRAMIDS_OF_ONE_STRIDE = ("Feature2Pyramid",)
"""Necks that make a pyramid of maps of one stride, which XCiT does itself."""

# Heads

SEGMENTATION_HEADS = ("decode_head", "auxiliary_head")
"""Keys of segmentors with one head or several."""

EXTRA_WIDTH_KEYS = {"c1_in_channels": 0}
"""Further keys of heads with the width of one level, and which level."""

HEADS_OF_THE_LAST_LEVEL = {"EncHead": "add_lateral"}
"""Heads that are told several levels and learn from the last, unless this is set."""

VIEWING_HEADS = ("DMHead",)
"""They call ``view`` across batch and channels of what they get."""

HEADS_OF_OTHER_CLASSES = ("FusedSemanticHead", "SCNetSemanticHead", "STDCHead")
"""Heads whose ``num_classes`` are not those of the data: stuff, or edges."""

# Optimizers

TRANSFORMER_KEYS = (
    "absolute_pos_embed",
    "relative_position_bias_table",
    "rel_pos_bias",
    "pos_embed",
    "pos_block",
    "cls_token",
)
"""``custom_keys`` of parameters that only transformer backbones other than XCiT have."""

LAYER_RATE_KEYS = ("decay_rate", "layer_decay_rate")
"""What optimizer constructors with layer-wise decay call its rate."""

# Images and annotations

PREPROCESSOR_WRAPPERS = ("MultiBranchDataPreprocessor",)
"""Data preprocessors that hand the images on to one inside."""

VIDEO_PREPROCESSOR = "TrackDataPreprocessor"

IMAGE_KEYS = ("mean", "std", "bgr_to_rgb", "rgb_to_bgr", "pad_size_divisor", "pad_mask")
"""Keys of data preprocessors, those of videos too, that say what is done to images."""

PADDING = {"batch_augments": None, "test_cfg": None, "pad_size_divisor": 1, "size_divisor": 1}
"""Settings of preprocessors that pad or resize images, and the values that do nothing."""

MASK_LOADERS = ("LoadPanopticAnnotations",)
"""Load masks unless they are told ``with_mask=False``."""

LABEL_MAP_SCALER = "SegRescale"
"""The step of a pipeline that makes label maps smaller, by its ``scale_factor``."""

# Sizes of images

KEYS_OF_SIZES = {"SSDAnchorGenerator": "input_size", "BEiT": "img_size", "MAE": "img_size"}
"""The size of images that a part is made for, by its class."""

LEAST_SIZES = {"LRASPPHead": (512, 512)}
"""Height and width of images that a part needs: this head pools windows of 49x49 places."""

MANY_QUERIES = 300
SIZE_FOR_MANY_QUERIES = (256, 384)
"""Two-stage query models choose their queries among the places of the maps."""

"""What is known of mm's classes by their names, where no interface tells."""

TRANSFORMER_KEYS = (
    "absolute_pos_embed",
    "relative_position_bias_table",
    "rel_pos_bias",
    "pos_block",
    "cls_token",
)
"""``custom_keys`` of parameters that only transformer backbones other than XCiT have."""

KEYS_OF_WEIGHTS = ("pretrained", "teacher_ckpt")
"""Settings that name weights, beside ``init_cfg``."""

DOWNLOADING_BACKBONES = ("TIMMBackbone",)
"""Load pretrained weights unless they are told ``pretrained=None``."""

DISTRIBUTED_OPTIMIZERS = ("ZeroRedundancyOptimizer",)
"""Are built among the processes of a distributed training only."""

VIDEO_PREPROCESSOR = "TrackDataPreprocessor"
KEYS_OF_IMAGE_PREPROCESSORS = (
    "mean",
    "std",
    "bgr_to_rgb",
    "rgb_to_bgr",
    "pad_size_divisor",
    "pad_mask",
)
"""What a preprocessor of videos has in common with mmdet's one of images."""

PADDING = {"batch_augments": None, "test_cfg": None, "pad_size_divisor": 1, "size_divisor": 1}
"""Settings of preprocessors that pad or resize images, and the values that do nothing."""

KEYS_OF_SIZES = {"SSDAnchorGenerator": "input_size"}
"""The size of images that a part is made for, by its class."""

LEAST_SIZES = {"LRASPPHead": (512, 512)}
"""Height and width of images that a part needs: this head pools windows of 49x49 places."""

MANY_QUERIES = 300
SIZE_FOR_MANY_QUERIES = (256, 384)
"""Two-stage query models choose their queries among the places of the maps."""

MASK_LOADERS = ("LoadPanopticAnnotations",)
"""Load masks unless they are told ``with_mask=False``."""

LABEL_MAP_SCALER = "SegRescale"
"""The step of a pipeline that makes label maps smaller, by its ``scale_factor``."""

HEADS_OF_OTHER_CLASSES = (
    "FusedSemanticHead",
    "SCNetSemanticHead",
    "SideAdapterCLIPHead",
    "STDCHead",
)
"""Heads whose ``num_classes`` are not those of the data: stuff, words, or edges."""

"""The words that plans, workers and reports share."""

INFERENCE = "inference"
TRAINING = "training"
MODES = (INFERENCE, TRAINING)

DTYPES = ("fp32", "bf16", "fp16")

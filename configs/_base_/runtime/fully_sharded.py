# Each process keeps a share of parameters, gradients and optimizer state; a second base for any
# config, started with torchrun and --launcher pytorch.
runner_type = "FlexibleRunner"
strategy = dict(type="FullyShardedStrategy")

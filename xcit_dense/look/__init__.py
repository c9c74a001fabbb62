"""Pictures of what goes on: attention, the images that a model is fed, curves of training."""

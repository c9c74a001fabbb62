"""Looking into the attention of a model."""

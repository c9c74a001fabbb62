"""What makes the network OpenMMLab's: the backbone, configs, resuming, precision, launch."""

"""Training of learned methods: a YAML config in, weights (safetensors) with a model card out.

Import `train_from_config` from `regbench.training.loop`; this package itself imports no torch.
"""

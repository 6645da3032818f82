"""Torch modules of the learned methods: one network per file, and the spatial operations they share."""

"""Benchmark of medical image registration: classical optimisers and learned networks, measured with one ruler."""

__version__ = "0.1.0"

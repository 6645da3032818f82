"""Checks of a dataset before a benchmark: what it holds, and whether that can be trusted."""

"""Slabs cover an array once, scratch memory is used again, and results keep the order of their tasks."""

from __future__ import annotations

import threading
import time

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.ndimage import binary_dilation

from regbench.slabs import Scratch, boxes_around, map_slabs, map_tasks, row_slabs


@given(st.lists(st.integers(0, 40), min_size=1, max_size=3), st.integers(1, 500))
def test_slabs_cover_every_row_once_in_order(shape: list[int], n_points: int) -> None:
    slabs = list(row_slabs(shape, n_points))
    assert [row for slab in slabs for row in range(slab.start, slab.stop)] == list(range(shape[0]))
    per_row = max(int(np.prod(shape[1:])), 1)
    assert all(slab.stop - slab.start <= max(n_points // per_row, 1) for slab in slabs)


def test_scratch_is_used_again_by_name_and_type() -> None:
    scratch = Scratch()
    first = scratch.array("a", (4, 5), np.float32)
    assert (first.shape, first.dtype) == ((4, 5), np.float32)
    assert np.shares_memory(scratch.array("a", (3, 2), np.float32), first)
    for other in (scratch.array("b", (4, 5)), scratch.array("a", (4, 5), np.float64), Scratch().array("a", (4, 5))):
        assert not np.shares_memory(other, first)
    assert scratch.array("a", (6, 7)).shape == (6, 7)
    assert scratch.array("empty", (0, 3)).shape == (0, 3)


@pytest.mark.parametrize("threads", [1, 2, 8])
def test_results_keep_the_order_of_the_tasks(threads: int) -> None:
    """The first tasks take longest, so that they are done last where there are threads."""

    def work(task: int, scratch: Scratch) -> int:
        time.sleep(0.02 if task < 2 else 0.0)
        return task

    assert map_tasks(work, list(range(8)), threads) == list(range(8))


@pytest.mark.parametrize("threads", [1, 3])
def test_each_thread_has_its_own_scratch(threads: int) -> None:
    def work(task: int, scratch: Scratch) -> tuple[int, int]:
        own = scratch.array("own", (1000,), np.intp)
        own[:] = task
        time.sleep(0.002)
        assert (own == task).all()
        return threading.get_ident(), id(scratch)

    seen = set(map_tasks(work, list(range(12)), threads))
    assert len({scratch for _, scratch in seen}) == len({thread for thread, _ in seen}) == len(seen) <= threads


def test_slabs_are_tasks() -> None:
    array = np.arange(30.0).reshape(10, 3)
    found = map_slabs(lambda rows, _: float(array[rows].sum()), row_slabs(array.shape, 9), threads=2)
    assert found == [array[:3].sum(), array[3:6].sum(), array[6:9].sum(), array[9:].sum()]


@pytest.mark.parametrize("threads", [1, 2])
def test_an_error_in_a_task_is_raised(threads: int) -> None:
    def work(task: int, scratch: Scratch) -> int:
        if task == 3:
            raise ValueError("task 3")
        return task

    with pytest.raises(ValueError, match="task 3"):
        map_tasks(work, list(range(5)), threads)


@given(st.integers(0, 2**32 - 1), st.sampled_from([(9, 12), (7, 8, 9), (1, 5, 6), (20, 3, 4)]), st.integers(0, 3))
def test_boxes_around_a_region_hold_all_that_is_near_and_do_not_overlap(
    seed: int, shape: tuple[int, ...], margin: int
) -> None:
    rng = np.random.default_rng(seed)
    region = rng.random(shape) < rng.choice([0, 0.01, 0.3])
    covered = np.zeros(shape, int)
    for box in boxes_around(region, margin, int(rng.integers(1, 100))):
        covered[box] += 1
    near = binary_dilation(region, np.ones((2 * margin + 1,) * len(shape)))
    assert covered.max() <= 1
    assert covered[near].all()
    rows, in_boxes = (np.flatnonzero(part.any(axis=tuple(range(1, len(shape))))) for part in (near, covered))
    assert rows[[0, -1]].tolist() == in_boxes[[0, -1]].tolist() if rows.size else in_boxes.size == 0


def test_scratch_that_grows_step_by_step_takes_fresh_memory_a_few_times() -> None:
    scratch = Scratch()
    places = {scratch.array("a", (size,)).__array_interface__["data"][0] for size in range(100, 1000)}
    assert len(places) < 10

"""Subspace sizes; no MPI needed."""

import itertools

import pytest

from miramns.iteration.subspace_size import (
    FixedSizes,
    checkpoints,
    first_cycle,
    kept_size,
    largest_size,
    published_sizes,
)


def test_checkpoints_end_at_the_largest_and_grow():
    sizes = checkpoints(10, 100)
    assert sizes[0] == 12
    assert sizes[-1] == 100
    assert all(b > a for a, b in itertools.pairwise(sizes))
    assert max(b / a for a, b in itertools.pairwise(sizes)) < 1.2
    assert checkpoints(5, 5) == (5,)


def test_largest_size_obeys_dimension_and_memory():
    assert largest_size(10, 10_000, 10_001) == 120
    assert largest_size(50, 10_000, 10_001) == 300
    assert largest_size(10, 10_000, 10_001, hermitian=False) == 60
    assert largest_size(50, 10_000, 10_001, hermitian=False) == 250
    assert largest_size(10, 60, 61) == 60
    assert largest_size(10, 10_000, 41) == 40
    assert largest_size(10, 10_000, 3) == 12


def test_published_sizes_are_every_integer_from_twice_k():
    assert published_sizes(50, 784) == tuple(range(100, 201))
    assert published_sizes(5, 500, 10) == (10,)
    assert published_sizes(10, 34) == tuple(range(20, 35))
    assert published_sizes(8, 500, 10) == tuple(range(10, 17))
    assert published_sizes(17, 21) == (21,)


@pytest.mark.parametrize(("k", "m", "kept"), [(5, 25, 15), (5, 7, 6), (1, 3, 2), (3, 4, 3)])
def test_kept_size_leaves_room(k, m, kept):
    assert kept_size(k, m) == kept < m


def test_first_cycles_are_small():
    """Each restart raises the largest size, and a cycle without one goes beyond it."""
    sizes = FixedSizes(5, checkpoints(5, 120), first_cycle(5))
    ends = []
    size = sizes.next_checkpoint(0)
    for _step in range(200):
        kept = sizes.keep(size, 10.0, 0.0)
        if kept:
            ends.append(size)
            size = kept
        size = sizes.next_checkpoint(size)
    assert ends[0] <= first_cycle(5) == 22
    assert ends[-1] == 120
    assert ends == sorted(ends)
    sizes = FixedSizes(5, checkpoints(5, 120), first_cycle(5))
    sizes.keep(21, 10.0, 0.0)
    assert FixedSizes(5, checkpoints(5, 120), first_cycle(5)).next_checkpoint(21) > 21
    assert FixedSizes(5, checkpoints(5, 120)).keep(21, 10.0, 0.0) == 0

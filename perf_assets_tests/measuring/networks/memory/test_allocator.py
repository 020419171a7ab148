"""The allocator's rules by hand."""

from perf_assets.measuring.networks.memory.allocator import MIB, CachingAllocator


def test_sizes_are_rounded_and_segments_are_large():
    allocator = CachingAllocator()
    allocator.allocate(1)
    assert (allocator.allocated_bytes, allocator.reserved_bytes) == (512, 2 * MIB)
    allocator.allocate(3 * MIB)
    assert allocator.reserved_bytes == 22 * MIB
    allocator.allocate(11 * MIB)
    # It fits into the 17 MiB that are left of that segment; the next does not.
    assert allocator.reserved_bytes == 22 * MIB
    allocator.allocate(10 * MIB + 1)
    assert allocator.reserved_bytes == 34 * MIB


def test_freed_neighbours_merge_and_are_used_again():
    allocator = CachingAllocator()
    blocks = [allocator.allocate(5 * MIB) for _ in range(4)]
    assert allocator.reserved_bytes == 20 * MIB
    for block in (blocks[1], blocks[2]):
        allocator.release(block)
    allocator.allocate(10 * MIB)
    assert allocator.reserved_bytes == 20 * MIB
    assert allocator.peak_bytes == 20 * MIB


def test_fragments_do_not_serve_a_larger_request():
    allocator = CachingAllocator()
    blocks = [allocator.allocate(5 * MIB) for _ in range(4)]
    for block in blocks[::2]:
        allocator.release(block)
    allocator.allocate(10 * MIB)
    assert allocator.allocated_bytes == 20 * MIB
    assert allocator.reserved_bytes == 30 * MIB


def test_empty_cache_gives_back_segments_with_nothing_in_use():
    allocator = CachingAllocator()
    small, large = allocator.allocate(5 * MIB), allocator.allocate(30 * MIB)
    allocator.release(large)
    kept = allocator.allocate(16 * MIB)
    allocator.release(small)
    # 20 MiB are free as a whole; of 30 MiB, 16 are in use.
    allocator.empty_cache()
    assert allocator.reserved_bytes == 30 * MIB
    allocator.release(kept)
    allocator.empty_cache()
    assert (allocator.reserved_bytes, allocator.allocated_bytes) == (0, 0)
    assert allocator.peak_reserved_bytes == 50 * MIB
    allocator.reset_peaks()
    assert (allocator.peak_bytes, allocator.peak_reserved_bytes) == (0, 0)
    allocator.allocate(12 * MIB)
    assert allocator.reserved_bytes == 12 * MIB

"""PyTorch's caching allocator on paper: what is handed out, and what is held."""

from __future__ import annotations

import bisect

MIB = 2**20


class CachingAllocator:
    """PyTorch's caching allocator, in its rules for sizes: what is handed out, and what is held.

    Sizes are rounded to 512 bytes. Requests of up to 1 MiB come from segments of 2 MiB, others of less than
    10 MiB from segments of 20 MiB, larger ones from segments of their own in steps of 2 MiB. The smallest
    free block that is large enough is taken and split if enough is left; free neighbours are merged; segments
    are given back only by :meth:`empty_cache`. (``c10/cuda/CUDACachingAllocator.cpp``)
    """

    def __init__(self) -> None:
        self.allocated_bytes = self.reserved_bytes = 0
        self.peak_bytes = self.peak_reserved_bytes = 0
        self._free: tuple[list[tuple[int, int]], list[tuple[int, int]]] = ([], [])
        # Block → [bytes, pool, block before, block after, in use]; 0 is no block.
        self._blocks: dict[int, list] = {}
        self._count = 0

    def allocate(self, size_bytes: float) -> int:
        """A block's number."""
        size = max(512, -int(-size_bytes // 512) * 512)
        pool = int(size > MIB)
        free = self._free[pool]
        at = bisect.bisect_left(free, (size, 0))
        if at < len(free):
            held, block = free.pop(at)
        else:
            held = 2 * MIB if not pool else 20 * MIB if size < 10 * MIB else -(-size // (2 * MIB)) * 2 * MIB
            self.reserved_bytes += held
            self.peak_reserved_bytes = max(self.peak_reserved_bytes, self.reserved_bytes)
            block = self._new(held, pool, 0, 0)
        state = self._blocks[block]
        rest = held - size
        if rest > MIB if pool else rest >= 512:
            right = self._new(rest, pool, block, state[3])
            if state[3]:
                self._blocks[state[3]][2] = right
            state[0], state[3] = size, right
            bisect.insort(free, (rest, right))
        state[4] = True
        self.allocated_bytes += state[0]
        self.peak_bytes = max(self.peak_bytes, self.allocated_bytes)
        return block

    def release(self, block: int) -> None:
        """Give a block back to its pool."""
        state = self._blocks[block]
        self.allocated_bytes -= state[0]
        state[4] = False
        free = self._free[state[1]]
        for side in (2, 3):
            other = state[side]
            if other and not self._blocks[other][4]:
                merged = self._blocks.pop(other)
                free.pop(bisect.bisect_left(free, (merged[0], other)))
                state[0] += merged[0]
                state[side] = merged[side]
                if merged[side]:
                    self._blocks[merged[side]][5 - side] = block
        bisect.insort(free, (state[0], block))

    def reset_peaks(self) -> None:
        """Peaks start again from what is allocated and reserved now."""
        self.peak_bytes, self.peak_reserved_bytes = self.allocated_bytes, self.reserved_bytes

    def empty_cache(self) -> None:
        """Give back the segments of which nothing is in use."""
        for free in self._free:
            # A block with no neighbours is all of its segment.
            whole = [entry for entry in free if not any(self._blocks[entry[1]][2:4])]
            for entry in whole:
                free.remove(entry)
                del self._blocks[entry[1]]
                self.reserved_bytes -= entry[0]

    def _new(self, size: int, pool: int, before: int, after: int) -> int:
        self._count += 1
        self._blocks[self._count] = [size, pool, before, after, False]
        return self._count

"""What a step holds in memory: which tensors live when, and what the caching allocator makes of them."""

"""Names that several places give to the same thing on disk. Needs no torch."""


def pruned_model_name(base: str, method: str, ratio: float, seed: int = 0) -> str:
    """Name of a pruned model's directory: network, method, share asked to be pruned away, seed."""
    return f"{base}-{method}-{ratio:.2f}-seed{seed}"

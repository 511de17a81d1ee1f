"""Rows of token trees, written here apart from the packer of the package."""

import numpy as np

FIELDS = ("tokens", "positions", "tree", "branch")
Forest = list[tuple[np.ndarray, list[np.ndarray]]]  # a trunk and its branches, for each tree


def packed(forest: Forest, length: int | None = None) -> dict[str, np.ndarray]:
    """Trees one after the other, branches after their trunk; padded by 5 columns, or to `length`."""
    columns = []
    for number, (trunk, branches) in enumerate(forest, 1):
        columns += [(token, place, number, 0) for place, token in enumerate(trunk)]
        for index, branch in enumerate(branches, 1):
            columns += [(token, len(trunk) + place, number, index) for place, token in enumerate(branch)]
    columns += [(0, 0, 0, 0)] * (5 if length is None else length - len(columns))
    return dict(zip(FIELDS, np.array(columns, np.int32).T))


def sequence(tokens: np.ndarray) -> dict[str, np.ndarray]:
    """One sequence alone: one tree that is all trunk."""
    length = len(tokens)
    return {
        "tokens": tokens.astype(np.int32),
        "positions": np.arange(length, dtype=np.int32),
        "tree": np.ones(length, np.int32),
        "branch": np.zeros(length, np.int32),
    }

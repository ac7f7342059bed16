"""What tests of divisions are given: records, links, rules drawn by hypothesis."""

from collections.abc import Callable, Iterable
from types import SimpleNamespace

from hypothesis import strategies as st

from kmunet.data.groups import Link
from kmunet.data.record import Record


def make(count: int, categories: str = "ab") -> list[Record]:
    """Records of these categories in turn, each of its own pixels."""
    return [
        Record(f"n{n}", categories[n % len(categories)], 8, 8, 0.01 * (n % 7),
               f"image {n}", f"both {n}")
        for n in range(count)
    ]  # fmt: skip


def as_links(pairs: Iterable[tuple[int, int]]) -> list[Link]:
    """One for each pair of two rows."""
    return [Link(min(p), max(p), "near", 0.9) for p in pairs if p[0] != p[1]]


def drawn(
    rules: Callable[..., SimpleNamespace],
) -> st.SearchStrategy[SimpleNamespace]:
    """`rules` of any seed, number of folds and fold."""
    return st.builds(
        rules,
        seed=st.integers(0, 2**32 - 1),
        folds=st.sampled_from([1, 3, 5]),
        fold=st.integers(0, 2),
    ).map(lambda r: SimpleNamespace(**{**vars(r), "fold": min(r.fold, r.folds - 1)}))

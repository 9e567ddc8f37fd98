import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from stages.corpus.duplicates import lsh
from stages.corpus.duplicates.components import find, join, labels


def jaccard(one: set[int], other: set[int]) -> float:
    return len(one & other) / len(one | other)


def naive_components(keys: list[list[int]], sets: list[set[int]], threshold: float) -> list[int]:
    """The whole candidate graph, flooded: every pair that shares a bucket of any band, compared."""
    label = list(range(len(sets)))
    edges = [
        (one, other)
        for one in range(len(sets))
        for other in range(one)
        if any(a == b for a, b in zip(keys[one], keys[other], strict=True))
        and jaccard(sets[one], sets[other]) >= threshold
    ]
    for _ in sets:
        for one, other in edges:
            label[one] = label[other] = min(label[one], label[other])
    return label


def arrays(sets: list[set[int]]) -> lsh.Sets:
    return lsh.pack([lsh.distinct(np.array(sorted(one), np.uint64)) for one in sets])


# Few members and few keys, so that sets are alike and buckets are shared often.
graphs = st.integers(1, 3).flatmap(
    lambda bands: st.lists(
        st.tuples(st.lists(st.integers(0, 2), min_size=bands, max_size=bands), st.sets(st.integers(0, 7), min_size=1)),
        min_size=1,
        max_size=14,
    )
)


@settings(deadline=None, max_examples=400)
@given(graphs, st.sampled_from([0.0, 0.3, 0.5, 2 / 3, 0.7, 0.75, 1.0]))
def test_components_are_those_of_the_naive_graph(graph: list[tuple[list[int], set[int]]], threshold: float) -> None:
    keys, sets = [key for key, _ in graph], [one for _, one in graph]
    found = lsh.components(np.array(keys, np.uint64), arrays(sets), threshold)
    assert found.tolist() == naive_components(keys, sets, threshold)


@settings(deadline=None, max_examples=100)
@given(graphs, st.randoms(use_true_random=False))
def test_the_order_of_the_texts_changes_no_component(graph: list[tuple[list[int], set[int]]], random) -> None:
    order = list(range(len(graph)))
    random.shuffle(order)

    def partition(rows: list[int]) -> set[frozenset[int]]:
        keys = np.array([graph[row][0] for row in rows], np.uint64)
        label = lsh.components(keys, arrays([graph[row][1] for row in rows]), 0.6)
        return {frozenset(rows[place] for place in np.flatnonzero(label == one)) for one in set(label.tolist())}

    assert partition(order) == partition(sorted(order))


@settings(deadline=None, max_examples=300)
@given(st.sets(st.integers(0, 200), min_size=1), st.sets(st.integers(0, 200), min_size=1), st.floats(0, 1))
def test_the_kernel_is_set_arithmetic(one: set[int], other: set[int], threshold: float) -> None:
    a, b = (np.array(sorted(part), np.uint64) for part in (one, other))
    assert lsh.similar(a, b, threshold) == (jaccard(one, other) >= threshold)
    exact = jaccard(one, other)
    assert lsh.similar(a, b, exact)
    assert exact == 1 or not lsh.similar(a, b, np.nextafter(exact, 1))


@given(st.integers(1, 500), st.integers(1, 500), st.floats(0, 1))
@settings(deadline=None)
def test_the_overlap_needed_is_the_least(one: int, other: int, threshold: float) -> None:
    need = lsh.overlap_needed(one, other, threshold)
    assert need / (one + other - need) >= threshold
    assert need == 0 or (need - 1) / (one + other - need + 1) < threshold


@settings(deadline=None)
@given(st.lists(st.lists(st.integers(0, 3), min_size=2, max_size=2), max_size=12), st.sets(st.integers(0, 11)))
def test_candidates_are_the_rows_that_share_a_bucket(keys: list[list[int]], chosen: set[int]) -> None:
    rows = sorted(row for row in chosen if row < len(keys))
    expected = [
        row for row in rows if any(other != row and any(map(int.__eq__, keys[row], keys[other])) for other in rows)
    ]
    bands = [np.array([key[band] for key in keys], np.uint64) for band in range(2)]
    assert lsh.candidates(bands, np.array(rows, np.int64)).tolist() == expected


@given(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9))))
def test_union_find_against_flooding(edges: list[tuple[int, int]]) -> None:
    parent = np.arange(10)
    for one, other in edges:
        join(parent, one, other)
    label = list(range(10))
    for _ in range(10):
        for one, other in edges:
            label[one] = label[other] = min(label[one], label[other])
    assert labels(parent).tolist() == label
    assert [find(parent, item) for item in range(10)] == label


def test_large_buckets_of_like_and_of_unlike_texts() -> None:
    """Ten thousand texts in every bucket: alike, one component; of like templates (J = 0.43), each alone."""
    random = np.random.default_rng(0)
    template = random.integers(0, 1 << 64, 60, np.uint64)

    def bucket(own: int, count: int) -> lsh.Sets:
        return lsh.pack(
            [np.sort(np.concatenate([template, random.integers(0, 1 << 64, own, np.uint64)])) for _ in range(count)]
        )

    alike = lsh.components(np.zeros((10_000, 14), np.uint64), bucket(2, 10_000), 0.7)
    assert set(alike.tolist()) == {0}
    unlike = lsh.components(np.zeros((2_000, 14), np.uint64), bucket(40, 2_000), 0.7)
    assert unlike.tolist() == list(range(2_000))

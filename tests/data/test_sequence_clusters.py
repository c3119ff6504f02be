import random

import pytest

from equilibra.data.sequence_clusters import sequence_clusters, sequence_identity, split_by_cluster, twilight_zone
from equilibra.errors import ConfigError, InputError

LETTERS = "ARNDCQEGHILKMFPSTWYV"


def unrelated(count, seed=0):
    rng = random.Random(seed)
    return ["".join(rng.choices(LETTERS, k=rng.randint(40, 90))) for _ in range(count)]


def mutated(sequence, share, seed=0):
    rng = random.Random(seed)
    return "".join(rng.choice(LETTERS) if rng.random() < share else letter for letter in sequence)


def test_identity_counts_equal_residues_of_the_alignment():
    assert sequence_identity("ACDEFGHIKL", "ACDEFGHIKL") == (1.0, 10)
    assert sequence_identity("ACDEFGHIKL", "ACDEFWHIKL") == (0.9, 10)
    # missing ends cost nothing
    assert sequence_identity("MSTNPKPQRKWYFACDE", "NPKPQRKWYF") == (1.0, 10)


def test_the_curve_falls_with_the_length():
    assert twilight_zone(5) == 1.0
    assert twilight_zone(80) == pytest.approx(0.324, abs=0.001)
    values = [twilight_zone(n) for n in range(11, 200)]
    assert values == sorted(values, reverse=True)


def test_unrelated_sequences_are_apart_and_relatives_together():
    parents = unrelated(30)
    relatives = [mutated(parents[4], 0.4, seed=1), parents[7][8:], "GSHM" + parents[9], mutated(parents[9], 0.3, seed=2)]
    clusters = sequence_clusters(parents + relatives)
    assert len(clusters) == 30
    groups = [c for c in clusters if len(c) > 1]
    assert groups == [[4, 30], [7, 31], [9, 32, 33]]


def test_links_connect():
    first = unrelated(1)[0] * 2
    second = unrelated(1, seed=5)[0] * 2
    fused = first[:70] + second[:70]
    assert sequence_clusters([first, second]) == [[0], [1]]
    assert sequence_clusters([first, second, fused]) == [[0, 1, 2]]


def test_a_split_keeps_clusters_together_and_is_deterministic():
    families = [[mutated(s, 0.2, seed=k) for k in range(3)] for s in unrelated(20, seed=3)]
    sequences = [member for family in families for member in family]
    train, kept = split_by_cluster(sequences, 0.2)
    assert (train, kept) == split_by_cluster(sequences, 0.2)
    assert sorted(train + kept) == list(range(60))
    assert len(kept) == 12
    assert not {i // 3 for i in train} & {i // 3 for i in kept}
    assert split_by_cluster(sequences, 0.2, seed=1)[1] != kept
    assert split_by_cluster(sequences, 0.0) == (list(range(60)), [])


def test_short_and_equal_sequences_are_handled():
    assert sequence_clusters(["AAA", "AAA", "GG", "WYWYWY"]) == [[0, 1], [2], [3]]
    assert sequence_clusters([]) == []


def test_impossible_splits_are_refused():
    with pytest.raises(ConfigError, match=r"share: got 1\.0"):
        split_by_cluster(["ACD"], 1.0)
    with pytest.raises(InputError, match="no sequence"):
        split_by_cluster([])

import numpy as np
import pytest
import xxhash

from vidembed.records.split import by_hash, train_rows

IDS = np.array([f"v{i:05d}" for i in range(20000)]).astype("S")


def test_split_is_the_hash_of_the_id():
    expected = [xxhash.xxh3_64(i, seed=5).intdigest() / 2**64 < 0.7 for i in IDS[:500].tolist()]
    assert train_rows(IDS[:500], seed=5).tolist() == expected
    # A golden value: the split behind published numbers must not change with any version.
    assert "".join(map(str, train_rows(IDS[:24], seed=0).astype(int))) == GOLDEN


GOLDEN = "111101010101101111110111"


def test_adding_or_reordering_videos_moves_no_video():
    whole = dict(zip(IDS.tolist(), train_rows(IDS, seed=1), strict=True))
    rng = np.random.default_rng(0)
    some = rng.permutation(IDS)[:1000].astype("S99")
    assert [whole[i] for i in some.tolist()] == train_rows(some, seed=1).tolist()


def test_shares_and_seeds():
    train = train_rows(IDS, seed=1)
    # Three standard deviations of 20,000 draws.
    assert abs(train.mean() - 0.7) < 3 * np.sqrt(0.7 * 0.3 / len(IDS))
    assert not (train_rows(IDS, seed=1, train_share=0.5) & ~train).any(), "a larger share only adds"
    assert abs(np.mean(train == train_rows(IDS, seed=2)) - 0.58) < 0.02, "seeds are independent"


def test_validation_is_a_second_hash_inside_what_is_not_train():
    train, validation, notes, _ = by_hash(IDS, seed=5, validation_share=0.4)
    assert np.array_equal(train, train_rows(IDS, seed=5))
    assert notes == ()
    expected = [
        not trains and xxhash.xxh3_64(b"validation:" + i, seed=5).intdigest() / 2**64 < 0.4
        for i, trains in zip(IDS.tolist(), train)
    ]
    assert validation.tolist() == expected
    held_out = np.sum(~train)
    assert abs(validation.sum() / held_out - 0.4) < 3 * np.sqrt(0.4 * 0.6 / held_out), "independent"
    assert not by_hash(IDS, seed=5).validation.any()
    # A larger share takes videos only from the test part; other seeds choose other videos.
    assert not (validation & ~by_hash(IDS, seed=5, validation_share=0.6).validation).any()
    more = by_hash(IDS, seed=5, train_share=0.8, validation_share=0.4)
    assert not (more.validation & ~validation).any()
    golden = by_hash(IDS[:24], seed=0, validation_share=0.5).validation
    assert "".join(map(str, golden.astype(int))) == GOLDEN_VALIDATION


GOLDEN_VALIDATION = "000010000000000000000000"


def test_windows_of_a_video_stay_together():
    windows = np.array([b"%s@%d-%d" % (i, n, n + 1) for i in IDS[:99].tolist() for n in range(9)])
    assert (
        train_rows(windows, seed=5).tolist() == np.repeat(train_rows(IDS[:99], seed=5), 9).tolist()
    )
    others = np.array([b"me@home", b"\xff@1-2", b"a@1-b", b"@1-2"])
    expected = [xxhash.xxh3_64(i, seed=3).intdigest() / 2**64 < 0.5
                for i in (b"me@home", b"\xff", b"a@1-b", b"@1-2")]  # fmt: skip
    assert train_rows(others, seed=3, train_share=0.5).tolist() == expected


def test_equal_keys_stay_together():
    groups = np.array([f"g{i // 7}" for i in range(2000)]).astype("S")
    part = np.stack(by_hash(groups, seed=2, validation_share=0.5)[:2])
    assert all(len({*map(tuple, part[:, groups == g].T.tolist())}) == 1 for g in {*groups})


@pytest.mark.fault(
    "Records: empty split",
    "refused, naming the shares",
)
@pytest.mark.parametrize("share", [0.0, 1.0, -0.1, 1.5])
def test_a_share_that_leaves_a_side_empty_is_refused(share):
    with pytest.raises(ValueError, match="train_share"):
        train_rows(IDS, seed=0, train_share=share)


@pytest.mark.parametrize("share", [1.0, -0.1])
def test_a_validation_share_that_leaves_nothing_to_test_is_refused(share):
    with pytest.raises(ValueError, match=f"validation_share {share} must be .* below 1"):
        by_hash(IDS, seed=0, validation_share=share)


def test_bad_ids_and_seeds_are_refused():
    with pytest.raises(TypeError, match="int64"):
        train_rows(np.arange(3), seed=0)
    with pytest.raises(ValueError, match="negative"):
        train_rows(IDS, seed=-1)

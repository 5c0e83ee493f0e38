"""Further records are read with the options of the table's import, unless options are given."""

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from vidembed.records.arrays import TableError
from vidembed.records.importing import Importing, import_videos
from vidembed.records.space import SpaceError
from vidembed.records.stored_options import options_of, with_stored
from vidembed.records.table import FeatureTable
from vidembed.records.table_folder import read_manifest

FOREIGN = {
    "modalities": ("clip:clip:4", "sound:noise:2"),
    "id_key": "item",
    "labels_key": "",
    "missing": "mask",
    "dtype": "bfloat16",
    "space": ("net",),
}
"""Every option of the first import differs from its default."""


def rows(path, ids, *, clip="clip"):
    """Parquet with `ids`; the last video has no sound."""
    rng = np.random.default_rng(len(ids))
    sound = [[3.0, -4.0 * (1 + i)] for i in range(len(ids) - 1)] + [None]
    features = {clip: list(rng.normal(size=(len(ids), 4)).astype(np.float32)), "noise": sound}
    pq.write_table(pa.table({"item": ids, **features}), path)
    return path


@pytest.fixture
def table(tmp_path):
    import_videos(rows(tmp_path / "old", ["a", "b", "c"]), tmp_path / "t", Importing(**FOREIGN))
    return tmp_path / "t"


def test_append_needs_none_of_the_options_of_the_import(table, tmp_path):
    new = rows(tmp_path / "new", ["d", "e"])
    report = import_videos(new, table, Importing(append=True))
    assert report["rows"] == 2
    appended = FeatureTable.open(table)
    assert appended.ids.tolist() == [b"a", b"b", b"c", b"d", b"e"]
    assert appended.has("sound").tolist() == [True, True, False, True, False]
    assert appended.space == {"clip": "net", "sound": "net"}
    # The same append with all options is the same append.
    assert import_videos(new, table, Importing(append=True, **FOREIGN))["already_there"]


@pytest.mark.fault("Records: appended: existing ids, another space, width or dtype")
@pytest.mark.parametrize(
    ("option", "error", "message"),
    [
        ({"dtype": "uint8"}, TableError, r"clip 4 bfloat16.*have clip 4 uint8.*--dtype"),
        ({"modalities": ("clip:clip:4",)}, TableError, r"sound 2 bfloat16, but .* have clip 4 "),
        ({"space": ("other",)}, SpaceError, r"'net', of the new videos 'other'"),
    ],
)
def test_a_given_option_that_contradicts_the_table_is_refused(
    table, tmp_path, option, error, message
):
    new = rows(tmp_path / "new", ["d", "e"])
    with pytest.raises(error, match=message):
        import_videos(new, table, Importing(append=True, **option))
    assert len(FeatureTable.open(table)) == 3


def test_given_keys_count_and_end_the_claim_to_the_stored_space(table, tmp_path):
    new = rows(tmp_path / "new", ["d", "e"], clip="other")
    given = {"modalities": ("clip:other:4", "sound:noise:2"), "append": True}
    # Another key may hold the features of another network.
    with pytest.raises(SpaceError, match=r"clip of .* is 'net', of .* '4 bfloat16 from .*other'"):
        import_videos(new, table, Importing(**given))
    assert import_videos(new, table, Importing(**given, space=("net",)))["rows"] == 2


def test_arrays_keep_their_names_unless_the_stored_keys_are_among_them(table, tmp_path):
    stored = options_of(read_manifest(table))
    (tmp_path / "few").mkdir()
    for name in ("clip", "noise"):
        np.save(tmp_path / "few" / f"{name}.npy", np.ones((1, 2), np.float32))
    options = Importing(ids="ids.txt")
    assert with_stored(tmp_path / "few", options, stored).modalities == FOREIGN["modalities"]
    (tmp_path / "few" / "noise.npy").unlink()
    alone = with_stored(tmp_path / "few", options, stored)
    assert (alone.modalities, alone.space, alone.dtype) == ((), (), "bfloat16")


def test_a_table_that_does_not_record_its_import_needs_the_options_as_before(tmp_path):
    assert options_of({}) == options_of({"source": {"by": "vidembed embed"}}) == {}
    assert with_stored(tmp_path, Importing(id_key="x"), {}) == Importing(id_key="x")


def test_the_options_of_the_default_import_are_stored_as_defaults(tmp_path):
    ones = {"mean_rgb": [[1.0] * 1024] * 2, "mean_audio": [[0.5] * 128] * 2}
    pq.write_table(pa.table({"id": ["a", "b"], "labels": [[1], [2]], **ones}), tmp_path / "p")
    import_videos(tmp_path / "p", tmp_path / "t", Importing())
    assert options_of(read_manifest(tmp_path / "t")) == {
        "modalities": ["visual:mean_rgb:1024", "audio:mean_audio:128"],
        "id_key": "",
        "labels_key": "labels",
        "missing": "refuse",
        "dtype": "uint8",
        "space": [],
    }

"""The space of features: by name, or by width, dtype and source."""

import pytest

from vidembed.records.space import SpaceError, check_same_space, named_spaces

BOTH = ("visual", "audio")


def test_one_name_for_all_or_one_for_each():
    assert named_spaces((), BOTH) == {}
    assert named_spaces(("clip-b16",), BOTH) == {"visual": "clip-b16", "audio": "clip-b16"}
    assert named_spaces(("audio=vggish", "visual=a=b"), BOTH) == {
        "audio": "vggish",
        "visual": "a=b",
    }
    assert named_spaces(("audio=vggish",), BOTH) == {"audio": "vggish"}


@pytest.mark.parametrize(
    "words", [("",), ("one", "two"), ("text=bert",), ("audio=",), ("audio=a", "audio=b")]
)
def test_malformed_words_are_refused(words):
    with pytest.raises(ValueError, match=r"MODALITY=NAME once for each of visual, audio"):
        named_spaces(words, BOTH)


def test_values_of_two_spaces_are_not_compared_and_other_modalities_join_freely():
    spaces = {"visual": "inception-pca", "audio": "vggish"}
    check_same_space(spaces, {"audio": "vggish", "text": "bert"})
    check_same_space(spaces, {"text": "bert"})
    with pytest.raises(SpaceError) as caught:
        check_same_space(spaces, {**spaces, "visual": "clip-b16"}, names=("the run", "work/table"))
    assert str(caught.value).startswith(
        "visual of the run is 'inception-pca', of work/table 'clip-b16': "
    )
    assert "--space NAME" in str(caught.value)


def test_where_only_the_dtype_differs_the_remedy_is_the_dtype():
    """A name for both spaces would hide that the rows are stored differently."""
    first = {"visual": "8 bfloat16 from records: clip", "audio": "4 bfloat16 from records: a"}
    other = {name: space.replace("bfloat16", "uint8") for name, space in first.items()}
    with pytest.raises(SpaceError, match=r"import the new videos with --dtype bfloat16$") as caught:
        check_same_space(first, other, names=("work/table", "the new videos"))
    assert "--space" not in str(caught.value)
    with pytest.raises(SpaceError, match="--space NAME"):  # the key differs, too
        check_same_space(first, {**other, "visual": "8 uint8 from records: other"})

"""Videos with words for `experiments.words`: captions, a split, and labels to ask for.

YouTube-8M has no captions: a video's are made of the names of its labels. `words_trailers` has
movies, `words_published` captions in the published forms.
"""

import csv
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from vidembed.records.label_names import vocabulary_lines
from vidembed.records.split import by_hash
from vidembed.records.table import FeatureTable

UNSEEN = (
    *(36, 38, 39, 48, 49, 51, 56, 67, 71, 76, 80, 86, 89, 95, 107, 112, 119, 133, 134, 140),
    *(153, 155, 161, 168, 171, 174, 184, 186, 195, 197, 199, 202, 209, 210, 213, 222, 225, 259),
    *(278, 320),
)
"""Labels of YouTube-8M for zero-shot: no video that bears one has a caption."""
SUBSETS = 4
"""Captions of a video at most, beside the one that names all of its labels."""
TRAIN, VALIDATION = 0.7, 0.1
PARTS = ("train", "validation", "test")


@dataclass(frozen=True, kw_only=True, eq=False)
class Worded:
    """N videos with M captions, split for one seed.

    parts: name → bool[N]; videos with unseen labels are in none of them, but in `kept_out`.
    videos: i64[M], the row of each caption. asked: the labels that each caption names, M; empty
    sets for texts that were not made of labels. names and descriptions: label → text. unseen: the
    labels that no caption names. modalities: those that systems read, sound last. every_caption:
    whether a video is asked for by each of its captions, or by its first, which says all.
    """

    table: FeatureTable
    parts: Mapping[str, np.ndarray]
    kept_out: np.ndarray
    texts: Sequence[str]
    videos: np.ndarray
    asked: Sequence[frozenset[int]]
    names: Mapping[int, str]
    descriptions: Mapping[int, str]
    unseen: Sequence[int]
    modalities: Sequence[str] = ("visual", "audio")
    every_caption: bool = False

    def captions_of(self, part: str) -> np.ndarray:
        """i64[m]: the captions of a part's videos."""
        return np.flatnonzero(self.parts[part][self.videos])

    def whole_of(self, part: str) -> np.ndarray:
        """i64[m]: the first caption of each of a part's videos, which says all that is known."""
        captions = self.captions_of(part)
        return captions[np.unique(self.videos[captions], return_index=True)[1]]

    def queries_of(self, part: str) -> np.ndarray:
        """i64[m]: the captions by which a part's videos are asked for."""
        return self.captions_of(part) if self.every_caption else self.whole_of(part)

    def bearing(self, label: int) -> np.ndarray:
        """bool[N]: the videos with this label."""
        row = np.repeat(np.arange(len(self.table)), np.diff(self.table.label_offsets))
        borne = np.zeros(len(self.table), bool)
        borne[row[self.table.label_values == label]] = True
        return borne

    def write(self, folder: Path) -> None:
        """Write captions.csv, split.csv, labels.csv and label_sets.csv, as the verbs read them.

        Videos that are kept out have no caption, and so no part in training or testing there; the
        split, which must name every video of the table, has them under test.
        """
        ids = self.table.ids.astype(str)
        folder.mkdir(parents=True, exist_ok=True)
        _write(
            folder / "captions.csv",
            ("video_id", "caption"),
            ((ids[row], text) for row, text in zip(self.videos, self.texts)),
        )
        of = {row: part for part in PARTS for row in np.flatnonzero(self.parts[part]).tolist()}
        split = ((name, of.get(row, "test")) for row, name in enumerate(ids))
        _write(folder / "split.csv", ("id", "split"), split)
        labels = (
            (label, name, self.descriptions.get(label, ""), int(label in self.unseen))
            for label, name in self.names.items()
        )
        _write(folder / "labels.csv", ("label", "name", "description", "unseen"), labels)
        sets = ((" ".join(map(str, sorted(each))), text) for each, text in self.label_sets("test"))
        _write(folder / "label_sets.csv", ("labels", "text"), sets)

    def label_sets(self, part: str) -> list[tuple[frozenset[int], str]]:
        """The different sets of labels that captions of a part name, each in one wording."""
        sets: dict[frozenset[int], str] = {}
        for caption in self.captions_of(part):
            if self.asked[caption]:
                sets.setdefault(self.asked[caption], self.texts[caption])
        return list(sets.items())


def youtube8m(
    table: FeatureTable, vocabulary: str | Path, seed: int, unseen: Sequence[int] = UNSEEN
) -> Worded:
    """Captions from the names of labels: all of a video's in random order, and random subsets.

    Equal captions of a video are one. Labels without a name are never named. Raises ValueError for
    another kind of vocabulary.
    """
    lines = vocabulary_lines(vocabulary, "Name")
    names = {label: plain(line["Name"]) for label, line in lines.items() if plain(line["Name"])}
    descriptions = {
        label: line["WikiDescription"] for label, line in lines.items()
        if label in names and line.get("WikiDescription")
    }  # fmt: skip
    row = np.repeat(np.arange(len(table)), np.diff(table.label_offsets))
    kept_out = np.zeros(len(table), bool)
    kept_out[row[np.isin(table.label_values, unseen)]] = True
    rng = np.random.default_rng(seed)
    captions: list[tuple[int, str, frozenset[int]]] = []
    for video in np.flatnonzero(~kept_out).tolist():
        labels = [int(label) for label in table.labels(video) if int(label) in names]
        captions += [(int(video), *each) for each in _wordings(labels, names, rng)]
    return worded(table, captions, seed, kept_out, names, descriptions, unseen)


def _wordings(
    labels: Sequence[int], names: Mapping[int, str], rng: np.random.Generator
) -> Iterable[tuple[str, frozenset[int]]]:
    """The captions of one video: no two name the same labels."""
    sets: set[frozenset[int]] = set()
    sizes = [len(labels), *rng.integers(1, max(len(labels), 2), SUBSETS)] if labels else []
    for size in sizes:
        order = rng.permutation(len(labels))[:size]
        chosen = [labels[place] for place in order]
        if frozenset(chosen) not in sets:
            sets.add(frozenset(chosen))
            yield ", ".join(names[label] for label in chosen), frozenset(chosen)


def worded(
    table: FeatureTable,
    captions: Sequence[tuple[int, str, frozenset[int]]],
    seed: int,
    kept_out: np.ndarray,
    names: Mapping[int, str],
    descriptions: Mapping[int, str],
    unseen: Sequence[int],
    groups: np.ndarray | None = None,
) -> Worded:
    """Videos with captions (video, text, labels), split by hashed ids; equal groups stay together.

    Raises ValueError if there is no caption.
    """
    if not captions:
        raise ValueError("no video has a caption: check that vocabulary, texts and videos belong")
    keys = table.ids if groups is None else groups
    names_of, back = np.unique(keys, return_inverse=True)
    split = by_hash(names_of, seed=seed, train_share=TRAIN, validation_share=VALIDATION / 0.3)
    train, validation = split.train[back], split.validation[back]
    videos, texts, asked = zip(*captions)
    worded = np.zeros(len(table), bool)
    worded[list(videos)] = True
    masks = (train, validation, ~train & ~validation)
    return Worded(
        table=table,
        parts={name: mask & worded & ~kept_out for name, mask in zip(PARTS, masks)},
        kept_out=kept_out,
        texts=texts,
        videos=np.array(videos, np.int64),
        asked=asked,
        names=names,
        descriptions=descriptions,
        unseen=tuple(unseen),
    )


def plain(name: str) -> str:
    """A label's name in small letters, without what stands in parentheses."""
    kept, depth = "", 0
    for letter in name.lower():
        depth += letter == "("
        kept += "" if depth else letter
        depth -= letter == ")" and depth > 0
    return " ".join(kept.split())


def _write(path: Path, header: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        lines = csv.writer(file)
        lines.writerow(header)
        lines.writerows(rows)

"""An imagined world of videos with captions, for tests and trials: nothing in it is real.

Each video shows an object that does something while a sound is heard. Its features are noisy
directions of the three, and its captions name them, in one of several wordings each. Some captions
are ambiguous: they leave out the object or the action, and so fit several videos.
"""

import csv
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from vidembed.records.split import by_hash
from vidembed.records.table import FeatureTable

MADE_UP = "imagined videos and captions, made up by a program"
OBJECTS = (
    ("dog", "puppy"), ("cat", "kitten"), ("man", "guy"), ("woman", "lady"), ("child", "kid"),
    ("horse", "pony"), ("robot", "machine"), ("bird", "parrot"), ("monkey", "ape"),
    ("chef", "cook"),
)  # fmt: skip
ACTIONS = (
    ("runs", "sprints"), ("jumps", "leaps"), ("dances", "twirls"), ("swims", "dives"),
    ("sleeps", "naps"), ("eats", "dines"), ("climbs", "clambers"), ("waits", "stands still"),
)  # fmt: skip
SOUNDS = (
    ("music plays", "a song plays"), ("rain falls", "it rains"), ("people talk", "a crowd talks"),
    ("bells ring", "a bell rings"), ("engines roar", "motors roar"), ("wind blows", "it storms"),
)  # fmt: skip
CLEAR = ("a {object} {action} while {sound}", "the {object} {action} and {sound}",
         "{sound} as a {object} {action}")  # fmt: skip
AMBIGUOUS = ("somebody {action} while {sound}", "a {object} is seen and {sound}")
WIDTHS = {"object": 12, "activity": 10, "audio": 8}
MSVD_COLUMNS = ("VideoID", "Start", "End", "WorkerID", "Language", "Description")


@dataclass(frozen=True, kw_only=True, eq=False)
class ImaginedCaptions:
    """N imagined videos: their features, captions and parts."""

    table: FeatureTable
    """Modalities object, activity and audio, f32[N, F] of the widths that were asked for."""
    texts: tuple[tuple[str, ...], ...]
    """The captions of each video."""
    parts: tuple[str, ...]
    """The part of each video: train, validation or test."""
    aspects: np.ndarray
    """i32[N, 3]: the object, the action and the sound of each video."""

    def write_csv(self, path: str | os.PathLike[str], *, split: bool = True) -> None:
        """Write `video_id, caption`, and `split` if asked for."""
        with open(path, "w", encoding="utf-8", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(["video_id", "caption", *["split"] * split])
            for name, texts, part in zip(self._names(), self.texts, self.parts):
                writer.writerows([name, text, *[part] * split] for text in texts)

    def write_msrvtt(self, path: str | os.PathLike[str]) -> None:
        """Write the form of MSR-VTT's videodatainfo.json."""
        words = {"validation": "validate"}
        names = self._names()
        videos = [
            {"video_id": name, "id": number, "split": words.get(part, part)}
            for number, (name, part) in enumerate(zip(names, self.parts))
        ]
        pairs = [(name, text) for name, texts in zip(names, self.texts) for text in texts]
        sentences = [
            {"caption": text, "video_id": name, "sen_id": number}
            for number, (name, text) in enumerate(pairs)
        ]
        with open(path, "w", encoding="utf-8") as file:
            json.dump({"info": MADE_UP, "videos": videos, "sentences": sentences}, file)

    def write_msvd(self, path: str | os.PathLike[str]) -> None:
        """Write the form of MSVD's CSV, which has no split. Ids must be those of `clips`."""
        with open(path, "w", encoding="utf-8", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(MSVD_COLUMNS)
            for name, texts in zip(self._names(), self.texts):
                clip = name.rsplit("_", 2)
                if len(clip) != 3:
                    raise ValueError(f"{name} is not VIDEO_START_END: imagine them with clips=True")
                writer.writerows([*clip, 0, "English", text] for text in texts)

    def _names(self) -> list[str]:
        return [name.decode() for name in self.table.ids.tolist()]


def imagined_captions(
    videos: int = 200,
    *,
    captions: int = 4,
    ambiguous: float = 0.2,
    noise: float = 0.3,
    silent: float = 0.1,
    clips: bool = False,
    widths: Mapping[str, int] = WIDTHS,
    seed: int = 0,
) -> ImaginedCaptions:
    """Imagine videos with captions.

    captions: of each video. ambiguous: share of the captions that leave something out. noise:
    deviation of each feature, beside directions of unit length. silent: share of the videos without
    audio features. clips: ids as MSVD's, VIDEO_START_END. widths: of object, activity and audio, in
    this order. Parts are those of a hash of the ids: 70% train, a third of the rest validation.
    """
    random = np.random.default_rng(seed)
    choices = (OBJECTS, ACTIONS, SOUNDS)
    aspects = np.stack([random.integers(0, len(each), videos) for each in choices], axis=1)
    features = {}
    for place, (modality, width) in enumerate(widths.items()):
        directions = random.normal(size=(len(choices[place]), width))
        directions /= np.linalg.norm(directions, axis=1, keepdims=True)
        values = directions[aspects[:, place]] + noise * random.normal(size=(videos, width))
        features[modality] = values.astype(np.float32)
    has_sound = random.random(videos) >= silent
    features["audio"][~has_sound] = 0
    form = b"imagined%05d_0_10" if clips else b"imagined%05d"
    ids = np.array([form % number for number in range(videos)])
    split = by_hash(ids, seed=seed, validation_share=1 / 3)
    table = FeatureTable(
        ids=ids,
        features=features,
        present={} if has_sound.all() else {"audio": has_sound},
        label_offsets=np.zeros(videos + 1, np.int64),
        label_values=np.zeros(0, np.int32),
        manifest={"source": {"made_up": MADE_UP}},
    )
    return ImaginedCaptions(
        table=table,
        texts=tuple(
            tuple(_caption(random, aspect, ambiguous) for _ in range(captions))
            for aspect in aspects.tolist()
        ),
        parts=tuple(
            np.where(split.train, "train", np.where(split.validation, "validation", "test"))
        ),
        aspects=aspects.astype(np.int32),
    )


def _caption(random: np.random.Generator, aspect: list[int], ambiguous: float) -> str:
    templates = AMBIGUOUS if random.random() < ambiguous else CLEAR
    words = [
        wordings[random.integers(len(wordings))]
        for wordings in (OBJECTS[aspect[0]], ACTIONS[aspect[1]], SOUNDS[aspect[2]])
    ]
    template = templates[random.integers(len(templates))]
    return template.format(object=words[0], action=words[1], sound=words[2])

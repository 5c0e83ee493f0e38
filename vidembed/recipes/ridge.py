"""A linear map onto given vectors in closed form: sentence vectors, labels, factors.

    vidembed train ridge --workdir W --corpus.table T --corpus.edges E --feed.targets V.parquet \\
        --task.model.layers.size 384
    vidembed evaluate ridge --workdir W

One pass over the train videos that have a target sums two matrices, which determine the map by
ridge regression (Hoerl and Kennard, 1970); see `vidembed.models.ridge`. Targets are vectors by id
(--feed.targets), a modality of the table that the network does not read (--feed.modality), or, by
default, --feed.factors of the train videos' relations: the leading eigenvectors of log(1 + weight),
each video's of unit length.
The options that matter: --task.ridge, --task.intercept.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from vidembed.engine.protocols import FeedOptions, Task
from vidembed.engine.recipe import Retention
from vidembed.feeds.target_pass import TargetPass
from vidembed.recipes import linear
from vidembed.tasks.ridge import Ridge

recipe = replace(
    linear.recipe,
    task=Ridge(),
    feed=TargetPass(),
    checkpoints=Retention(every_steps=TargetPass.parts),
    steps=TargetPass.parts,
)
RECIPES = {"ridge": recipe}
PRESETS = linear.PRESETS
EVALUATION = linear.EVALUATION
OFFERED: Mapping[type, Any] = {**linear.OFFERED, Task: Ridge, FeedOptions: TargetPass}

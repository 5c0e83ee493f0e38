"""Table 1: does audio help? Video against video with audio, at matched widths.

    python -m experiments.modalities run --workdir W --records FOLDER
    python -m experiments.modalities gather --workdir W

The paper's rows do not have matched widths, or do not state them: its multimodal row is the
2560-256 early network of Table 2, while the text calls the video-only network the left tower of
late fusion. Here the visual tower of each width is compared with the early network of that width
(the same layers behind a wider input), and at 4000-256 with late fusion (the same tower, plus one
for audio).
"""

import sys

from experiments.paper import TABLE_1, minus
from experiments.sweep import Comparison, Sweep, networks
from experiments.sweep_command import main

sweep = Sweep(
    name="modalities",
    title="Table 1: video against video with audio",
    claim="Audio helps: NDCG@10 10.38 to 12.04 % eval-to-train, 7.22 to 8.48 % train-to-eval.",
    points=lambda base: networks(
        base,
        "visual-2560-256",
        "early-2560-256",
        "visual-4000-256",
        "early-4000-256",
        "late-4000-256",
    ),
    comparisons=(
        Comparison("early-2560-256", "visual-2560-256", "audio helps, early"),
        Comparison("early-4000-256", "visual-4000-256", "audio helps, early"),
        Comparison("late-4000-256", "visual-4000-256", "audio helps, late"),
        Comparison(
            "early-2560-256",
            "visual-4000-256",
            "Table 1; video-only width not stated",
            minus(TABLE_1["video and audio"], TABLE_1["video"]),
        ),
    ),
)

if __name__ == "__main__":
    sys.exit(main(sweep))

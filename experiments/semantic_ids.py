"""Do related videos share the first codes of their semantic IDs? In a work directory of a sweep:

    python -m experiments.semantic_ids --workdir runs/quickstart

Codebooks are fitted to the vectors of the train videos alone; new videos are encoded by them. Each
prefix of the codes is a partition of the videos, and so is each level of the hierarchy, which
clusters the train graph. A partition is measured by the share of the related pairs inside one part.
The fewer the parts, the more pairs are inside by chance: that is the same share after the second
ends of the pairs are shuffled among them, which keeps how often each video is watched.

train   both ends are train videos: the hierarchy was made of these very pairs, and the network
        learned from them
new     at least one end is a video that was held out, of which the hierarchy knows nothing
"""

import dataclasses
import sys
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

import vidembed
from experiments.clusterings import linked_videos
from vidembed import files
from vidembed.cli.command_line import start
from vidembed.corpora.watched import Corpus, CorpusPaths
from vidembed.evaluators.baselines import raw_features
from vidembed.progress import Progress
from vidembed.serving.semantic_ids import Codebooks

EXCHANGES = 20
"""Number of times that the pairs are shuffled."""
PAIRS = ("pairs to train on", "pairs with a new video")
HEADER = ("partition", "parts", "lost %", *("train", "chance", "×"), *("new", "chance", "×"))


@dataclasses.dataclass(frozen=True, kw_only=True)
class SharedPrefixes:
    """How many related pairs share prefixes of semantic IDs, beside clusters of the graph."""

    workdir: str = "runs/quickstart"
    """Of a sweep or the quickstart: its table, sessions, hierarchy and run are used."""
    point: str = "trained"
    """The run whose vectors get IDs."""
    seed: int = 0
    """Whose sessions, split and run; and of k-means."""
    sizes: tuple[int, ...] = (32, 32, 32)
    """Codes of each level."""
    step: str = "best"
    """best, latest, or a number."""

    def run(self) -> int:
        """Prints, and writes semantic_ids.json and .md into the folder of the seed."""
        progress, world = Progress(), Path(self.workdir) / f"seed{self.seed}"
        corpus = CorpusPaths(
            table=str(Path(self.workdir) / "table"),
            edges=str(world / "edges.parquet"),
            hierarchy=str(world / "hierarchy.parquet"),
            split_seed=self.seed,
        ).open()
        with progress.stage("embedding"):
            run = vidembed.load(str(world / self.point), step=self.step)
            vectors = run.embed(corpus.table)
        rows = list(measured(corpus, vectors, self.sizes, seed=self.seed, progress=progress))
        result = {
            "simulated_sessions": corpus.simulated,
            "space": run.space,
            "sizes": list(self.sizes),
            "pairs": {name: len(one) for name, (one, _) in pairs_of(corpus).items()},
            "rows": rows,
        }
        table = Table(title=title(result), title_justify="left", box=None, pad_edge=False)
        for number, name in enumerate(HEADER):
            table.add_column(name, justify="right" if number else "left")
        for row in rows:
            table.add_row(*cells(row))
        Console(highlight=False).print(table)
        files.write_json(world / "semantic_ids.json", result)
        files.write_text(world / "semantic_ids.md", as_markdown(result))
        progress.say(f"wrote {world}/semantic_ids.json and .md")
        return 0


def measured(
    corpus: Corpus, vectors: np.ndarray, sizes: tuple[int, ...], *, seed: int, progress: Progress
) -> Iterator[dict[str, Any]]:
    """A row for each prefix of IDs of the vectors f32[N, D] and of the raw features, and for each
    level of the hierarchy, each beside a single level of as many codes.

    `name`; `parts`, those that train videos with relations lie in; `lost`, the share of the
    variance of new videos that codes do not reconstruct, None for the hierarchy; and of each kind
    of pairs `share` and `chance`, None where the partition knows nothing of them.
    """
    assert corpus.hierarchy is not None, "give a corpus with a hierarchy"
    raw = raw_features(corpus.table, tuple(corpus.table.features))
    raw /= np.maximum(np.linalg.norm(raw, axis=1, keepdims=True), 1e-12)
    pairs, linked = pairs_of(corpus), linked_videos(corpus)
    systems = {"embedding": vectors, "raw features": raw}

    def row(name: str, part: np.ndarray, lost: float | None) -> dict[str, Any]:
        shares = {kind: shared(part, *of, seed=seed) for kind, of in pairs.items()}
        return {"name": name, "parts": len(np.unique(part[linked])), "lost": lost, **shares}

    def coded(of: np.ndarray, sizes: tuple[int, ...]) -> Iterator[tuple[np.ndarray, float]]:
        books = Codebooks.fit(of[corpus.is_train], sizes, space="measured", seed=seed)
        codes, new = books.encode(of), ~corpus.is_train
        quality = books.quality(of[new], codes[new])
        for level, about in enumerate(quality["levels"], 1):
            yield np.unique(codes[:, :level], axis=0, return_inverse=True)[1], about["lost"]

    for name, of in systems.items():
        with progress.stage(f"IDs of the {name}"):
            for length, (part, lost) in enumerate(coded(of, sizes), 1):
                codes = "1 code" if length == 1 else f"{length} codes"
                yield row(f"{name}, {codes}", part.reshape(-1), lost)
    for level in range(corpus.hierarchy.levels, 0, -1):
        part = corpus.hierarchy.level(level)
        clusters = row(f"hierarchy, level {level}", part, None)
        yield clusters | {PAIRS[1]: None}
        for name, of in systems.items():
            [(part, lost)] = coded(of, (clusters["parts"],))
            yield row(f"{name}, 1 of {clusters['parts']:,}", part.reshape(-1), lost)


def pairs_of(corpus: Corpus) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Related pairs of each kind, each pair once: their ends, i64[P] twice."""
    kinds = {}
    for name, graph in zip(PAIRS, (corpus.train_graph, corpus.relations)):
        one, other = graph.rows(), graph.neighbours.astype(np.int64)
        chosen = one < other
        if name == PAIRS[1]:
            chosen &= ~(corpus.is_train[one] & corpus.is_train[other])
        kinds[name] = one[chosen], other[chosen]
    return kinds


def shared(part: np.ndarray, one: np.ndarray, other: np.ndarray, *, seed: int) -> dict[str, float]:
    """The share of pairs whose ends lie in one part i[N], and the same of shuffled pairs."""
    rng, chance = np.random.default_rng(seed), []
    for _ in range(EXCHANGES):
        exchanged = rng.permutation(other)
        differ = exchanged != one
        chance.append(np.mean(part[one[differ]] == part[exchanged[differ]]))
    return {"share": float(np.mean(part[one] == part[other])), "chance": float(np.mean(chance))}


def title(result: Mapping[str, Any]) -> str:
    """What the table shows, and of which pairs."""
    pairs = ", ".join(f"{count:,} {name}" for name, count in result["pairs"].items())
    simulated = " of SIMULATED sessions" if result["simulated_sessions"] else ""
    sizes = " × ".join(map(str, result["sizes"]))
    return f"Related pairs inside one part, %: {pairs}{simulated}; IDs of {sizes} codes"


def cells(row: Mapping[str, Any]) -> list[str]:
    """A row as text."""
    lost = "" if row["lost"] is None else f"{100 * row['lost']:.0f}"
    found = [row["name"], f"{row['parts']:,}", lost]
    for kind in PAIRS:
        if (of := row[kind]) is None:
            found += ["", "", ""]
            continue
        times = f"{of['share'] / of['chance']:.0f}" if of["chance"] else ""
        found += [f"{100 * of['share']:.1f}", f"{100 * of['chance']:.2f}", times]
    return found


def as_markdown(result: Mapping[str, Any]) -> str:
    """The table in Markdown."""
    lines = [list(HEADER), ["---"] * len(HEADER), *map(cells, result["rows"])]
    return f"# {title(result)}\n\n" + "".join(f"| {' | '.join(line)} |\n" for line in lines)


main = partial(start, SharedPrefixes, prog="python -m experiments.semantic_ids")

if __name__ == "__main__":
    sys.exit(main())

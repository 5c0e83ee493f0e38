"""MovieLens 100K, the ratings of CDML's tables: whose movies have trailers here, and its SVD row.

Its movies have ids of their own, so that they are joined by title and year.
"""

import re
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from experiments.movielens_data import MovieLensError, need
from experiments.movielens_people import Scores, asked, own_test
from experiments.movielens_systems import by_svd, interactions
from vidembed.corpora.ratings import Ratings, read_ratings
from vidembed.records.scores_file import PerQuery

COUNTS = (10, 20, 50)


def title_key(title: str, year: str = "") -> str:
    """What titles of two lists are compared by: letters and digits, articles where they are spoken,
    the year."""
    if not year and (found := re.fullmatch(r"(.*)\((\d{4})\)\s*", title)):
        title, year = found.groups()
    title = re.sub(r"\([^)]*\)", "", title).strip().lower()  # other names
    if found := re.fullmatch(r"(.*), (the|a|an|la|le|les|il|el|das|der|die)", title):
        title = f"{found[2]} {found[1]}"
    return f"{re.sub(r'[^a-z0-9]', '', title.replace('&', 'and'))} {year}"


def read_titles(folder: Path) -> dict[str, str]:
    """Item → key of its title, from `u.item` (GroupLens) or `*.item` (RecBole)."""
    items: list[tuple[str, str, str]] = []
    if (folder / "u.item").exists():
        lines = (folder / "u.item").read_text(encoding="latin-1").splitlines()
        items = [(of[0], of[1], "") for of in (line.split("|") for line in lines if line)]
    elif found := sorted(folder.glob("*.item")):
        header, *lines = found[0].read_text(encoding="utf-8").splitlines()
        names = [name.partition(":")[0] for name in header.split("\t")]
        place = [names.index(name) for name in ("item_id", "movie_title", "release_year")]
        of_lines = (line.split("\t") for line in lines if line)
        items = [(of[place[0]], of[place[1]], of[place[2]]) for of in of_lines]
    else:
        raise MovieLensError(f"{folder} holds neither u.item nor *.item: its titles are not known")
    return {item: title_key(title, year) for item, title, year in items}


def hundred_k(path: str) -> tuple[Ratings, dict[str, str]]:
    """Its ratings and the keys of its titles; MovieLensError where there is no folder."""
    folder = need(path, "--ml100k", "MovieLens 100K (u.data and u.item, or RecBole's files)")
    return read_ratings(folder), read_titles(folder)


def joined(
    ratings: Ratings, titles: Mapping[str, str], movies: Mapping[str, str]
) -> tuple[dict[str, str], str]:
    """Item of ML-100K → movieId, by titles (movieId → title), and how many joined, in words."""
    known = {title_key(title): name for name, title in movies.items()}
    movie_of = {item: known[key] for item, key in titles.items() if key in known}
    of = np.array([item.decode() in movie_of for item in ratings.items])
    return movie_of, (
        f"MovieLens 100K: {int(of.sum()):,} of {len(of):,} movies have trailers here, joined by "
        f"title and year; {int(of[ratings.item].sum()):,} of {len(ratings):,} ratings fall on them"
    )


def svd_row(
    ratings: Ratings, *, seed: int, relevant: float
) -> tuple[dict[str, dict[str, PerQuery]], dict[str, object]]:
    """Table 5's SVD on all its ratings, N of each user known, and what knows no user beside it."""
    keys = np.random.default_rng(seed).random(len(ratings))
    everyone = np.ones(len(ratings.users), bool)
    found: dict[str, dict[str, PerQuery]] = {}
    about: dict[str, object] = {}
    for count in COUNTS:
        known = np.full(len(everyone), count)
        of = asked(ratings, keys, known, everyone, relevant=relevant)
        about[f"{count}"] = {"users": len(of.users), "left_out": dict(of.left_out)}
        if not len(of.users):
            continue
        systems: dict[str, Scores] = {"svd": by_svd(ratings, of.known)}
        systems |= dict(interactions(ratings, of.known, relevant=relevant, seed=seed))
        for name, scores in systems.items():
            one = own_test(ratings, of, scores, relevant=relevant)
            found.setdefault(name, {})[f"{count}"] = one
    return found, about

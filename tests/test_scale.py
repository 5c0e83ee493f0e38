import tracemalloc
from dataclasses import replace

import numpy as np
import pytest

from vidembed.chips import CHIPS
from vidembed.feeds.labelled import LabelledVideos
from vidembed.feeds.triplets import Triplets
from vidembed.graph.relation import RelationGraph
from vidembed.losses.sampled_softmax import SampledSoftmax
from vidembed.losses.softmax import FullSoftmax
from vidembed.recipe import Recipe
from vidembed.scale import BUILDING_BYTES, Estimate, Scale, host_memory, seconds
from vidembed.step_cost import imagined_rows
from vidembed.tasks.arithmetic import Arithmetic, Message, Product
from vidembed.tasks.cluster_labels import ClusterLabels

WIDTHS = {"visual": 1024, "audio": 128}
PAPER = Recipe(feed=Triplets(batch_triplets=7168))


def estimate(videos, chips, recipe=PAPER, **scale):
    return Estimate.of(recipe, imagined_rows(WIDTHS, int(videos)), Scale(**scale), chips)


def test_the_host_holds_what_a_relation_graph_holds():
    nodes, rng = 500, np.random.default_rng(0)
    pairs = np.unique(rng.integers(0, nodes, (4000, 2)), axis=0)
    pairs = pairs[pairs[:, 0] < pairs[:, 1]]
    graph = RelationGraph.from_edges(*pairs.T, np.ones(len(pairs)), nodes=nodes)
    held = sum(a.nbytes for a in (graph.offsets, graph.neighbours, graph.weights))
    degree = 2 * graph.edges / nodes
    parts = host_memory(imagined_rows(WIDTHS, nodes), degree, train_share=0.7, threads=2)
    assert parts["relations"] == held - 8  # the last offset
    assert parts["feature table"] == nodes * 1152


def test_building_a_graph_takes_what_the_host_is_told():
    nodes, edges = 20_000, 300_000
    rng = np.random.default_rng(0)
    source = rng.integers(0, nodes, edges)
    target = (source + 1 + rng.integers(0, nodes - 1, edges)) % nodes
    weight = np.ones(edges, np.float32)
    tracemalloc.start()
    RelationGraph.from_edges(source, target, weight, nodes=nodes)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak / edges == pytest.approx(BUILDING_BYTES, rel=0.1)


def test_seconds_by_hand():
    chip = CHIPS["v5e"]
    arithmetic = Arithmetic(
        products={
            "one": Product(flop=8 * 197e12, operands="bfloat16", note=""),
            "two": Product(flop=8 * 197e12 / 6, operands="float32", note=""),
        },
        kept={}, passing={}, traffic={}, messages={},
    )  # fmt: skip
    sent = {"x": Message(kind="all-gather", bytes=8 * 10**9, devices=8)}
    found = seconds(arithmetic, {"y": 819e9}, sent, 8, Scale(utilisation=0.5))
    assert found == pytest.approx(
        {"products": 4.0, "device memory": 1.0, "network": 7e9 / chip.link_rate}
    )


def test_a_ring_over_hosts_runs_at_the_rate_between_hosts():
    assert CHIPS["h100"].sending_rate(8) == 450e9
    assert CHIPS["h100"].sending_rate(16) == 50e9


def test_278_million_videos_need_more_than_eight_small_chips():
    one, eight, many = (estimate(278e6, n) for n in (1, 8, 64))
    assert any("--feed.placement host, or about 21 chips" in line for line in eight.limits())
    assert any("do not fit on the chips" in line for line in one.limits())
    assert sum(many.memory.values()) < CHIPS["v5e"].memory
    assert not any("on the chips" in line for line in many.limits())
    # Every host reads the whole table and the whole graph.
    assert many.host["feature table"] == 278e6 * 1152
    assert any("do not fit on a host" in line for line in many.limits())


def test_what_is_slowest_changes_with_the_number_of_chips():
    few, many = estimate(8e6, 8), estimate(8e6, 256, chip="h100")
    assert any("float32 (products, mining)" in line for line in few.limits())
    assert any("the network is slowest" in line for line in many.limits())


def test_only_options_that_are_still_float32_are_named():
    task = PAPER.task
    layers = replace(task.model.layers, compute="bfloat16")
    half = replace(PAPER, task=replace(task, model=replace(task.model, layers=layers)))
    both, one = (estimate(8e6, 8, recipe, chip="h200").limits() for recipe in (PAPER, half))
    assert any("compute and --task.miner.operands bfloat16" in line for line in both)
    assert any(line.endswith("(mining); --task.miner.operands bfloat16") for line in one)


def test_products_that_are_always_float32_are_not_blamed_on_an_option():
    feed = LabelledVideos(batch_videos=21_504)
    tasks = [ClusterLabels(loss=loss) for loss in (SampledSoftmax(), FullSoftmax())]
    few, many = (estimate(8e6, 8, Recipe(task=task, feed=feed)).limits() for task in tasks)
    assert any(line.endswith("(products); --task.model.layers.compute bfloat16") for line in few)
    assert any("classes the largest part, which is always float32" in line for line in many)
    assert not any("bfloat16" in line for line in many)


@pytest.mark.parametrize(
    ("triplets", "words"),
    [
        (64, "update the largest part of what it moves; more triplets"),
        (200_000, "; fewer triplets"),
    ],
)
def test_slow_device_memory_is_said(triplets, words):
    layers = replace(PAPER.task.model.layers, compute="bfloat16")
    model = replace(PAPER.task.model, layers=layers)
    miner = replace(PAPER.task.miner, operands="bfloat16")
    task = replace(PAPER.task, model=model, miner=miner)
    recipe = replace(PAPER, task=task, feed=Triplets(batch_triplets=triplets))
    found = estimate(1e6, 1, recipe, chip="h200", utilisation=1.0)
    assert max(found.seconds, key=found.seconds.get) == "device memory"
    [line] = [line for line in found.limits() if "device memory is slowest" in line]
    assert words in line


@pytest.mark.parametrize(
    "wrong", [{"chips": (0,)}, {"videos": 0.0}, {"utilisation": 1.5}, {"forbidden": 1}]
)
def test_impossible_scales_are_refused(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        Scale(**wrong)

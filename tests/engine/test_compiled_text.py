"""The text of compiled programs, as XLA writes it for TPUs and CPUs, against counts by hand."""

import pytest

from vidembed.engine.compiled_text import array_bytes, read_program

# Lines of a step for v5e:2x2, shortened.
TPU = """
HloModule jit_update, is_scheduled=true

%fused_computation.13.clone.1 (p0: f32[144,256], p1: f32[21600,256]) -> f32[144,21600] {
  %fusion.113 = f32[144,256]{1,0:T(8,128)S(1)} parameter(0)
  %fusion.114 = f32[21600,256]{1,0:T(8,128)S(1)} parameter(1)
  ROOT %convolution.35 = f32[144,21600]{1,0:T(8,128)S(1)} convolution(%fusion.113, %fusion.114), dim_labels=bf_oi->bf, operand_precision={highest,highest}, metadata={op_name="jit(update)/dot_general"}
}

%wide.region_9.12_spmd (wide.param.5: (s32[], f32[144,256])) -> pred[] {
  %constant.97.clone.1 = s32[]{:T(128)} constant(13), metadata={op_name="jit(update)/jvp()/shard_map" stack_frame_id=75}
  %wide.param.5 = (s32[]{:T(128)}, f32[144,256]{1,0:T(8,128)S(1)}) parameter(0)
  %get-tuple-element.275 = s32[]{:T(128)} get-tuple-element(%wide.param.5), index=0
  ROOT %lt.103 = pred[]{:T(512)} compare(%get-tuple-element.275, %constant.97.clone.1), direction=LT
}

%wide.region_4.11_spmd.sunk (wide.param.0: (s32[], f32[144,256])) -> (s32[], f32[144,256]) {
  %wide.param.0 = (s32[]{:T(128)}, f32[144,256]{1,0:T(8,128)S(1)}) parameter(0)
  %fusion.115 = f32[144,21600]{1,0:T(8,128)S(1)} fusion(%a, %b), kind=kOutput, calls=%fused_computation.13.clone.1
  %all-reduce.3 = f32[100]{0:T(128)} all-reduce(%slice.1), replica_groups=[2,2]<=[4], to_apply=%add.6
  %slice.1 = f32[100]{0:T(128)} slice(%a)
}

ENTRY %main.10_spmd (param: s32[3,1800]) -> f32[] {
  %bitcast.133 = s32[1,1800,3]{1,2,0:T(4,128)S(1)} bitcast(%param)
  %subtract = bf16[3,1800,1024]{2,1,0:T(8,128)} fusion(%param), kind=kLoop
  %kernel = bf16[3,1800,4000]{2,1,0:T(8,128)} fusion(%param), kind=kLoop
  %convolution.22 = f32[1024,4000,1]{0,1,2:T(8,128)} convolution(%subtract, %kernel), window={size=3}, dim_labels=0fb_0io->bf0, metadata={op_name="jit(update)/transpose(jvp())/dot_general"}
  %all-gather.11 = s32[4,1800,3]{1,2,0:T(4,128)S(1)} all-gather(%bitcast.133), channel_id=7, replica_groups=mesh['axis_0'=2,'axis_1'=4], device_ids=([4,2]T(1,0)) {'axis_1'}, dimensions={0}, use_global_device_ids=true
  %u.1 = u32[3,2,921600]{2,1,0:T(2,128)} bitcast(%param)
  %u.2 = u32[3,2,115200]{2,1,0:T(2,128)S(1)} bitcast(%param)
  %all-reduce.15 = (u32[3,2,921600]{2,1,0:T(2,128)}, /*index=1*/u32[3,2,115200]{2,1,0:T(2,128)S(1)}) all-reduce(%u.1, /*index=1*/%u.2), channel_id=17, replica_groups={{0,1,2,3}}, use_global_device_ids=true, to_apply=%region_0.1.clone.clone
  %pool = f32[3,1800,256]{2,1,0:T(8,128)} fusion(%param), kind=kLoop
  %all-gather-start.1 = (f32[3,1800,256]{2,1,0:T(8,128)}, f32[3,7200,256]{2,1,0:T(8,128)}) all-gather-start(%pool), replica_groups={{0,1,2,3}}, dimensions={1}
  %alone = f32[]{:T(128)} all-reduce(%pool), replica_groups={{0},{1},{2},{3}}, to_apply=%add.6
  %while.15 = (s32[]{:T(128)}, f32[144,256]{1,0:T(8,128)S(1)}) while(%tuple.129), condition=%wide.region_9.12_spmd, body=%wide.region_4.11_spmd.sunk
}
"""  # noqa: E501


def test_products_count_as_often_as_their_loop_runs():
    program = read_program(TPU)
    mining, kernel = 2 * 144 * 21_600 * 256, 2 * 1024 * 4000 * 3 * 1800
    # Float32 is what is asked for in full precision; all else goes at the rate of bfloat16.
    assert program.products == {"float32": 13 * mining, "bfloat16": kernel}
    assert program.products_once == mining + kernel
    assert program.unknown_loops == 0


def test_a_loop_of_unknown_length_is_counted_once_and_said():
    program = read_program(TPU.replace("direction=LT", "direction=NE"))
    assert program.products["float32"] == program.products_once - program.products["bfloat16"]
    assert program.unknown_loops == 1


def test_a_trip_count_that_the_compiler_knows_is_taken():
    known = 'body=%wide.region_4.11_spmd.sunk, backend_config={"known_trip_count":{"n":"7"}}'
    program = read_program(TPU.replace("body=%wide.region_4.11_spmd.sunk", known))
    assert program.products["float32"] == 7 * 2 * 144 * 21_600 * 256


def test_products_of_a_library_are_not_counted_but_said():
    """As XLA writes them for GPUs."""
    call = (
        '  %g = (f32[8,8]{1,0}, s8[64]{0}) custom-call(%a, %b), custom_call_target="__cublas$gemm"'
    )
    program = read_program(TPU + call)
    assert program.library_products == 1
    assert program.products == read_program(TPU).products
    assert read_program(TPU).library_products == 0


def test_collectives_by_hand():
    features, gathered, numbers, looped = read_program(TPU).collectives
    assert (features.kind, features.operands) == ("all-reduce", "u32[3,2,921600] and 1 more")
    assert features.bytes == features.put == 3 * 2 * (921_600 + 115_200) * 4
    assert features.sent == 2 * 3 / 4 * features.bytes  # there and back, around four
    assert not features.asynchronous
    assert (gathered.kind, gathered.asynchronous) == ("all-gather", True)
    assert gathered.bytes == 3 * 7200 * 256 * 4
    assert gathered.sent == 3 / 4 * gathered.bytes
    assert (looped.devices, looped.times, looped.sent) == (2, 13, 13 * 2 / 2 * 400)
    assert (numbers.devices, numbers.bytes) == (4, 4 * 1800 * 3 * 4)


@pytest.mark.parametrize(
    ("line", "put", "devices", "sent"),
    [
        ("reduce-scatter(%x), replica_groups=[1,8]<=[8], dimensions={0}", 800, 8, 700),
        ("all-to-all(%x), replica_groups={{0,1,2,3}}, dimensions={0}", 800, 4, 600),
        ("collective-permute(%x), source_target_pairs={{0,1},{1,2},{2,0}}", 800, 3, 800),
    ],
)
def test_other_kinds_by_hand(line, put, devices, sent):
    text = f"ENTRY %main (x: u8[800]) -> u8[800] {{\n  %x = u8[800]{{0}} parameter(0)\n  %y = u8[8]{{0}} {line}\n}}"  # noqa: E501
    [each] = read_program(text).collectives
    assert (each.put, each.devices, each.sent) == (put, devices, sent)


def test_a_message_inside_an_asynchronous_computation_is_asynchronous():
    text = """
%async (p: f32[8]) -> f32[8] {
  %p = f32[8]{0} parameter(0)
  %r = f32[8]{0} all-reduce(%p), replica_groups={{0,1}}, to_apply=%add
}

ENTRY %main (x: f32[8]) -> f32[8] {
  %x = f32[8]{0} parameter(0)
  %s = ((f32[8]{0}), f32[8]{0}, s32[]) async-start(%x), calls=%async
}
"""
    [each] = read_program(text).collectives
    assert each.asynchronous


def test_unknown_groups_are_named():
    text = "ENTRY %m (x: f32[8]) -> f32[8] {\n  %x = f32[8] parameter(0)\n  %y = f32[8] all-reduce(%x), replica_groups=?\n}"  # noqa: E501
    with pytest.raises(ValueError, match=r"replica_groups=\?"):
        read_program(text)


def test_the_first_array_of_a_text_is_measured():
    assert array_bytes("f32[3,4] and 2 more") == 48
    assert array_bytes("nothing") == 0

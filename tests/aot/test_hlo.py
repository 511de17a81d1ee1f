"""What is read from HLO: small programs written by hand, and programs that XLA compiled here."""

import jax
import jax.numpy as jnp
import pytest

from consistency_jax.aot.hlo import Collective, Program, group_size

LOOP = """
HloModule loop

%sum (a: f32[], b: f32[]) -> f32[] {
  %a = f32[] parameter(0)
  %b = f32[] parameter(1)
  ROOT %add = f32[] add(%a, %b)
}

%body (p: (s32[], f32[4,8], f32[10,8,8])) -> (s32[], f32[4,8], f32[10,8,8]) {
  %p = (s32[], f32[4,8]{1,0}, f32[10,8,8]{2,1,0}) parameter(0)
  %i = s32[] get-tuple-element(%p), index=0
  %x = f32[4,8]{1,0} get-tuple-element(%p), index=1
  %w = f32[10,8,8]{2,1,0} get-tuple-element(%p), index=2
  %one = s32[] constant(1)
  %zero = s32[] constant(0)
  %slice = f32[1,8,8]{2,1,0} dynamic-slice(%w, %i, %zero, %zero), dynamic_slice_sizes={1,8,8}
  %layer = f32[8,8]{1,0} bitcast(%slice)
  %d = f32[4,8] dot(%x, %layer), lhs_contracting_dims={1}, metadata={op_name="rematted_computation"}
  %reduced = f32[4,8]{1,0} all-reduce(%d), channel_id=7, replica_groups={{0,1,2,3}}, to_apply=%sum
  %next = s32[] add(%i, %one)
  ROOT %out = (s32[], f32[4,8]{1,0}, f32[10,8,8]{2,1,0}) tuple(%next, %reduced, %w)
}

%cond (q: (s32[], f32[4,8], f32[10,8,8])) -> pred[] {
  %q = (s32[], f32[4,8]{1,0}, f32[10,8,8]{2,1,0}) parameter(0)
  %j = s32[] get-tuple-element(%q), index=0
  %limit = s32[] constant(10)
  ROOT %less = pred[] compare(%j, %limit), direction=LT
}

ENTRY %main (x0: f32[4,8], w0: f32[10,8,2], v0: f32[10,8,8]) -> f32[4,8] {
  %x0 = f32[4,8]{1,0} parameter(0)
  %w0 = f32[10,8,2]{2,1,0} parameter(1)
  %gathered = f32[10,8,8]{2,1,0} all-gather(%w0), channel_id=3, replica_groups=[1,4]<=[4], dimensions={2}
  %start = s32[] constant(START)
  %first = (s32[], f32[4,8]{1,0}, f32[10,8,8]{2,1,0}) tuple(%start, %x0, %gathered)
  %while = (s32[], f32[4,8]{1,0}, f32[10,8,8]{2,1,0}) while(%first), condition=%cond, body=%body
  ROOT %result = f32[4,8]{1,0} get-tuple-element(%while), index=1
}
"""


@pytest.mark.parametrize(("start", "trips"), [(0, 10), (3, 7), (10, 0)])
def test_a_loops_body_counts_as_often_as_it_runs(start, trips):
    program = Program(LOOP.replace("START", str(start)))
    assert program.flops() == trips * 2 * 4 * 8 * 8
    assert program.flops("rematted_computation") == program.flops()
    assert program.flops("something else") == 0
    assert program.unknown_loops == []
    # a ring of 4: an all-gather sends 3 of the shards, an all-reduce 3/4 of the array twice
    collectives = program.collectives()
    assert collectives["all-gather"] == Collective(1, 3 * 10 * 8 * 2 * 4)
    assert collectives["all-reduce"] == Collective(trips, trips * 2 * 3 / 4 * 4 * 8 * 4)
    # each turn: the slice read and written, and the product's operands and result; the stack is not read whole
    layer, rows = 8 * 8 * 4, 4 * 8 * 4
    assert program.traffic() == trips * (2 * layer + rows + layer + rows + 3 * 4)


def test_a_loop_of_unknown_length_is_named_and_counted_once():
    program = Program(
        LOOP.replace("s32[] constant(10)", "s32[] get-tuple-element(%q), index=1").replace("START", "0")
    )
    assert program.flops() == 2 * 4 * 8 * 8
    assert program.unknown_loops == ["while"]


CONVOLUTION = """
HloModule convolution

ENTRY %main (a: f32[2,8,16,32], b: f32[2,8,32,64]) -> f32[2,8,16,64] {
  %a = f32[2,8,16,32] parameter(0)
  %b = f32[2,8,32,64] parameter(1)
  ROOT %c = f32[2,8,16,64] convolution(%a, %b), window={size=2x8 stride=1x7 lhs_dilate=2x8}, dim_labels=01bf_01io->01bf
}
"""


def test_a_batched_product_in_the_tpu_compilers_form_counts_as_the_product():
    # Batch axes are written as windows over holes: all but the 2 x 8 products of matrices is padding.
    assert Program(CONVOLUTION).flops() == 2 * 2 * 8 * 16 * 32 * 64


FUSIONS = """
HloModule fusions

%inner (stack: bf16[10,64,32], place: s32[], keep: bf16[10,4,32]) -> (bf16[64,32], bf16[10,4,32]) {
  %stack = bf16[10,64,32]{2,1,0} parameter(0)
  %place = s32[] parameter(1)
  %keep = bf16[10,4,32]{2,1,0} parameter(2)
  %zero = s32[] constant(0)
  %slice = bf16[1,64,32]{2,1,0} dynamic-slice(%stack, %place, %zero, %zero), dynamic_slice_sizes={1,64,32}
  %flat = bf16[64,32]{1,0} bitcast(%slice)
  %negated = bf16[64,32]{1,0} negate(%flat)
  %update = bf16[1,4,32]{2,1,0} broadcast(%place), dimensions={}
  %updated = bf16[10,4,32]{2,1,0} dynamic-update-slice(%keep, %update, %place, %zero, %zero)
  ROOT %both = (bf16[64,32]{1,0}, bf16[10,4,32]{2,1,0}) tuple(%negated, %updated)
}

%all-reduce-scatter (grads: f32[64,32]) -> f32[16,32] {
  %grads = f32[64,32]{1,0} parameter(0)
  %zero.1 = s32[] constant(0)
  %summed = f32[64,32]{1,0} all-reduce(%grads), channel_id=1, replica_groups=mesh['a'=2,'b'=4] {'b'}, to_apply=%unused
  ROOT %own = f32[16,32]{1,0} dynamic-slice(%summed, %zero.1, %zero.1), dynamic_slice_sizes={16,32}
}

ENTRY %main (p0: bf16[10,64,32], p1: s32[], p2: bf16[10,4,32], p3: f32[64,32]) -> f32[16,32] {
  %p0 = bf16[10,64,32]{2,1,0} parameter(0)
  %p1 = s32[]{:S(6)} parameter(1)
  %p2 = bf16[10,4,32]{2,1,0} parameter(2)
  %p3 = f32[64,32]{1,0} parameter(3)
  %fusion = (bf16[64,32]{1,0:T(8,128)(2,1)S(1)}, bf16[10,4,32]{2,1,0}) fusion(%p0, %p1, %p2), kind=kLoop, calls=%inner
  ROOT %scattered = f32[16,32]{1,0} fusion(%p3), kind=kCustom, calls=%all-reduce-scatter
}
"""


def test_fusions_move_the_slices_that_they_take_and_the_updates_that_they_make():
    program = Program(FUSIONS)
    # One of ten slices is read; its negation stays in vector memory, S(1); one of ten is written in place.
    assert program.traffic() == 2 * 64 * 32 + 2 * 4 * 32


ALIAS = """
HloModule alias

%same (whole: s8[10,64,32]) -> s8[10,64,32] {
  %whole = s8[10,64,32]{2,1,0} parameter(0)
  ROOT %copy = s8[10,64,32]{2,1,0} copy(%whole)
}

%inner (stack: s8[10,64,32], place: s32[]) -> s8[1,64,32] {
  %stack = s8[10,64,32]{2,1,0} parameter(0)
  %place = s32[] parameter(1)
  %pinned = s8[10,64,32]{2,1,0} fusion(%stack), kind=kLoop, output_to_operand_aliasing={{}: (0, {})}, calls=%same
  %zero = s32[] constant(0)
  ROOT %slice = s8[1,64,32]{2,1,0} dynamic-slice(%pinned, %place, %zero, %zero), dynamic_slice_sizes={1,64,32}
}

ENTRY %main (p0: s8[10,64,32], p1: s32[]) -> s8[1,64,32] {
  %p0 = s8[10,64,32]{2,1,0} parameter(0)
  %p1 = s32[]{:S(6)} parameter(1)
  ROOT %fusion = s8[1,64,32]{2,1,0} fusion(%p0, %p1), kind=kLoop, calls=%inner
}
"""


def test_a_copy_that_shares_its_operands_memory_reads_nothing_of_its_own():
    assert Program(ALIAS).traffic() == 2 * 64 * 32  # the slice read, the slice written; not the ten of them
    assert Program(ALIAS.replace("output_to_operand_aliasing={{}: (0, {})}, ", "")).traffic() == 11 * 64 * 32


def test_a_fused_sum_in_place_is_no_copy():
    added = ALIAS.replace("copy(%whole)", "add(%whole, %whole)")
    assert Program(added).traffic() == 11 * 64 * 32


COPIES = """
HloModule copies

ENTRY %main (p0: s8[4096]) -> s8[4096] {
  %p0 = s8[4096]{0} parameter(0)
  %slice = ((s8[4096]{0}), s8[1024]{0:S(1)}, s32[]{:S(2)}) slice-start(%p0), slice={[1024:2048]}
  %sliced = s8[1024]{0:S(1)} slice-done(%slice)
  %copy = (s8[4096]{0:S(1)}, s8[4096]{0}, u32[]{:S(2)}) copy-start(%p0)
  %copied = s8[4096]{0:S(1)} copy-done(%copy)
  %back = (s8[4096]{0}, s8[4096]{0:S(1)}, u32[]{:S(2)}) copy-start(%copied)
  ROOT %out = s8[4096]{0} copy-done(%back)
}
"""


def test_copies_beside_the_computing_move_what_they_copy_once():
    # A slice into vector memory (1,024 bytes), the whole there, and back.
    assert Program(COPIES).traffic() == 1024 + 4096 + 4096


def test_a_sum_of_which_a_slice_is_kept_is_a_reduce_scatter():
    assert Program(FUSIONS).collectives() == {"reduce-scatter": Collective(1, 3 / 4 * 64 * 32 * 4)}


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("replica_groups={{0,1},{2,3}}, x", 2),
        ("replica_groups=[2,8]<=[16], x", 8),
        ("replica_groups=mesh['a'=4,'b'=2] {'a'}", 4),
        ("replica_groups=mesh['a'=4,'b'=2] {'a','b'}", 8),
        ("replica_groups={}", 0),
    ],
)
def test_group_sizes(text, size):
    assert group_size(text) == size


def test_what_is_no_program_is_refused():
    with pytest.raises(ValueError, match="no ENTRY"):
        Program("HloModule nothing")


def test_flops_are_those_of_xlas_own_count_where_there_are_no_loops_and_loops_change_nothing():
    def layers(x, weights):
        for weight in weights:
            x = x @ weight
        return x

    def scanned(x, weights):
        return jax.lax.scan(lambda x, weight: (x @ weight, None), x, weights)[0]

    shapes = jax.ShapeDtypeStruct((16, 32), jnp.float32), jax.ShapeDtypeStruct((6, 32, 32), jnp.float32)
    inlined, loop = (jax.jit(f).lower(*shapes).compile() for f in (layers, scanned))
    flops = 6 * 2 * 16 * 32 * 32
    assert Program(inlined.as_text()).flops() == pytest.approx(flops)
    assert inlined.cost_analysis()["flops"] == pytest.approx(flops, rel=0.01)
    program = Program(loop.as_text())
    assert program.flops() == flops
    assert not program.unknown_loops
    assert loop.cost_analysis()["flops"] < flops / 3  # why we count ourselves

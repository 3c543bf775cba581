"""FLOPs and bytes of calls into cuBLAS, cuDNN and kernels, against arithmetic by hand."""

import jax
import jax.numpy as jnp

from mvar_jax.compilation.library_calls import library_cost
from mvar_jax.compilation.program_text import instructions
from mvar_jax.ops.kernels.costs import declare_flops, declared_flops

HEADER = """
ENTRY %main (a: bf16[4,64,32]) -> f32[8] {
  %matrices = bf16[4,64,32]{2,1,0} parameter(0)
  %others = bf16[4,32,16]{2,1,0} parameter(1)
  %image = bf16[2,16,16,8]{3,2,1,0} parameter(2)
  %kernel = bf16[24,3,3,8]{3,2,1,0} parameter(3)
  %result = bf16[2,8,8,24]{3,2,1,0} parameter(4)
  %logits = f32[8,4096]{1,0} parameter(5)
"""
PRODUCT = """
  %product = (bf16[4,64,16]{2,1,0}, s8[4194304]{0}) custom-call(%matrices, %others), \
custom_call_target="__cublas$lt$matmul", backend_config={"gemm_backend_config":{\
"dot_dimension_numbers":{"lhs_contracting_dimensions":["2"],"rhs_contracting_dimensions":["1"],\
"lhs_batch_dimensions":["0"],"rhs_batch_dimensions":["0"]}}}
"""
CONVOLUTION = """
  %convolution = (bf16[2,8,8,24]{3,2,1,0}, u8[77]{0}) custom-call(%image, %kernel), \
window={size=3x3 stride=2x2}, dim_labels=b01f_o01i->b01f, custom_call_target="__cudnn$convForward"
"""
BACKWARD = """
  %image_gradient = (bf16[2,16,16,8]{3,2,1,0}, u8[0]{0}) custom-call(%result, %kernel), \
dim_labels=b01f_o01i->b01f, custom_call_target="__cudnn$convBackwardInput"
  %kernel_gradient = (bf16[24,3,3,8]{3,2,1,0}, u8[0]{0}) custom-call(%image, %result), \
dim_labels=b01f_o01i->b01f, custom_call_target="__cudnn$convBackwardFilter"
"""
TOP_K = """
  ROOT %top = (f32[8,10]{1,0}, s32[8,10]{1,0}) custom-call(%logits), \
custom_call_target="__gpu$TopK", called_computations={%compare}
"""
TRITON = """
  %softmax = (f32[8,4096]{1,0}, f32[8]{0}) custom-call(%logits), \
custom_call_target="__gpu$xla.gpu.triton", metadata={op_name="jit(f)/kernel_flops=123/softmax"}
"""
IMAGE, KERNEL, RESULT = 2 * 16 * 16 * 8, 24 * 3 * 3 * 8, 2 * 8 * 8 * 24
CONVOLUTION_FLOPS = 2 * RESULT * 3 * 3 * 8


def cost(calls):
    return library_cost(HEADER + calls.replace("\\\n", ""))


def test_a_product_counts_its_sums_and_no_workspace():
    flops, moved = cost(PRODUCT)
    assert flops == 2 * 4 * 64 * 16 * 32
    assert moved == 2 * (4 * 64 * 32 + 4 * 32 * 16 + 4 * 64 * 16)


def test_a_convolution_counts_every_tap():
    assert cost(CONVOLUTION) == (CONVOLUTION_FLOPS, 2 * (IMAGE + KERNEL + RESULT))


def test_gradients_of_a_convolution_cost_what_it_costs():
    assert cost(BACKWARD) == (2 * CONVOLUTION_FLOPS, 2 * 2 * (IMAGE + KERNEL + RESULT))


def test_other_calls_move_their_operands_and_results():
    assert cost(TOP_K) == (0, 4 * (8 * 4096 + 2 * 8 * 10))


def test_a_kernel_costs_what_it_declares():
    assert cost(TRITON) == (123, 4 * (2 * 8 * 4096 + 8))
    assert cost(TRITON.replace("kernel_flops=", "")) == (0, 4 * (2 * 8 * 4096 + 8))


def test_declared_flops_survive_into_the_compiled_program():
    def halves(x):
        with declare_flops(456):
            return jnp.tanh(x) / 2

    text = jax.jit(jax.grad(lambda x: jnp.sum(halves(x)))).lower(jnp.ones(8)).compile().as_text()
    declared = {declared_flops(row.rest) for row in instructions(text) if "tanh" in row.kind}
    assert declared == {456}


def test_a_program_without_calls_costs_nothing_here():
    assert cost("") == (0, 0)

"""When kernels run, and what they declare to cost."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mvar_jax.ops.kernels.lanes import sequence_call, use_kernels


def test_plain_form_runs_off_tpus_and_for_heads_that_do_not_fit():
    assert not use_kernels("auto", 128, 64)
    assert not use_kernels("none", 128, 64)
    assert use_kernels("pallas", 128, 64)
    assert not use_kernels("auto", 96, 48)
    with pytest.raises(ValueError, match="heads of 48 channels in 96, expected heads that divide"):
        use_kernels("pallas", 96, 48)


def test_declared_bytes_are_operands_and_results():
    wide, shared = jnp.ones((3, 40, 256)), jnp.ones((3, 40, 4), jnp.bfloat16)

    def body(wide_ref, shared_ref, out_ref):
        out_ref[...] = wide_ref[...] * jnp.sum(shared_ref[...].astype(jnp.float32))

    def call(wide, shared):
        inputs = [("lanes", wide), ("shared", shared)]
        return sequence_call(body, inputs, inputs[:1], (), 7)[0]

    np.testing.assert_allclose(call(wide, shared), 160.0)
    equation = jax.make_jaxpr(call)(wide, shared).eqns[-1]
    assert equation.primitive.name == "pallas_call"
    cost = equation.params["cost_estimate"]
    assert cost.flops == 3 * 7  # of one image, as given
    assert cost.bytes_accessed == 2 * wide.nbytes + shared.nbytes

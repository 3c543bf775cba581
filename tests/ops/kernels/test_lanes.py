"""What kernels declare to cost."""

import jax
import jax.numpy as jnp
import numpy as np

from mvar_jax.ops.kernels.lanes import sequence_call


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

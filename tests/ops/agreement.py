"""A test that all implementations of an op compute the same."""

from functools import partial
from typing import Any

import jax
import numpy as np
import pytest

from mvar_jax.ops.implementations import Op, platform


class ImplementationsAgree:
    """Outputs and gradients of every implementation are those of "xla", for every case.

    A subclass names the op, its cases, and how far apart values may be, as a share of an array's
    largest one. Where its platform is missing, an implementation is interpreted, or else skipped.
    """

    op: Op
    cases: dict[str, Any]
    tolerance: float

    def arrays(self, case):
        """The inputs by which gradients are taken."""
        raise NotImplementedError

    def compute(self, case, arrays, implementation):
        """The op's outputs, a tree of arrays."""
        raise NotImplementedError

    def pytest_generate_tests(self, metafunc):
        """Runs `test_values_and_gradients` over the table and the cases."""
        if "implementation" in metafunc.fixturenames:
            names = [row.name for row in self.op.implementations if row.name != "xla"]
            metafunc.parametrize("implementation", names)
            metafunc.parametrize("case", self.cases.values(), ids=self.cases.keys())

    def test_values_and_gradients(self, implementation, case):
        row = next(row for row in self.op.implementations if row.name == implementation)
        if platform() not in row.platforms and not row.interpreted:
            pytest.skip(f"{implementation} runs on {' and '.join(row.platforms)} only")
        arrays, results = self.arrays(case), []
        for name in ("xla", implementation):
            compute = partial(self.compute, case, implementation=name)
            results.append(jax.jit(partial(value_and_gradients, compute))(arrays))
        for expected, got in zip(*map(jax.tree.leaves, results), strict=True):
            atol = self.tolerance * np.abs(expected).max()
            np.testing.assert_allclose(got, expected, rtol=1e-4, atol=atol)


def value_and_gradients(compute, arrays):
    """The outputs, and gradients of something by the arrays."""
    outputs, backward = jax.vjp(compute, arrays)
    return outputs, backward(like(outputs))


def like(outputs):
    """Gradients of something by the outputs."""
    return jax.tree.map(lambda a: jax.random.normal(jax.random.key(7), a.shape, a.dtype), outputs)


def runs_kernels(function, *arguments):
    """Whether a function of these arguments runs a Pallas kernel, wherever it is traced to."""
    return "pallas_call" in str(jax.make_jaxpr(function)(*arguments))

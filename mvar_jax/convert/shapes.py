"""Shapes of tensors by name, asked for with the number of axes that they must have."""

from collections.abc import Mapping

from mvar_jax.checks import check


class Shapes:
    """Looks shapes up; `shapes[name, axes]` raises ValueError where there is no such tensor."""

    def __init__(self, shapes: Mapping[str, tuple[int, ...]]):
        self._shapes = shapes

    def __contains__(self, name: object) -> bool:
        return name in self._shapes

    def has(self, prefix: str) -> bool:
        """Whether any name begins with it."""
        return any(name.startswith(prefix) for name in self._shapes)

    def __getitem__(self, key: tuple[str, int]) -> tuple[int, ...]:
        name, axes = key
        check(name in self, f"the tensor {name} is missing")
        shape = self._shapes[name]
        check(
            len(shape) == axes and min(shape) > 0,
            f"the tensor {name} has shape {shape}, expected {axes} axes, none of them empty",
        )
        return shape

    def count(self, prefix: str) -> int:
        """How many numbers follow a prefix: of blocks, of levels.

        Raises ValueError unless they run from 0 on without a gap.
        """
        rests = (name.removeprefix(prefix) for name in self._shapes if name.startswith(prefix))
        numbers = {rest.partition(".")[0] for rest in rests}
        for i in range(len(numbers)):
            check(str(i) in numbers, f"the tensors {prefix}{i}.* are missing")
        check(len(numbers) > 0, f"the tensors {prefix}0.* are missing")
        return len(numbers)

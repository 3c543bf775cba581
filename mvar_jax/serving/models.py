"""The models that are drawn with, for the one thread that draws."""

from collections.abc import Callable

import jax

from mvar_jax.cache import Profile
from mvar_jax.config import parse_aspect
from mvar_jax.sampling import Model
from mvar_jax.serving.job import Job, Policy
from mvar_jax.serving.limits import MOST_PROGRAMS
from mvar_jax.serving.offer import Offer

COMPILED = "/jax/core/compile/backend_compile_duration"  # JAX's name of the event


class Models:
    """One model in memory at a time; what is compiled for it stays until it gets too much.

    load: loads the model of a working directory, which is one of texts or not
    profile: of calibration, for policies that need one
    most_programs: compiled programs in memory, beyond which all are forgotten
    """

    def __init__(
        self,
        load: Callable[[str, bool], Model],
        profile: Profile | None,
        most_programs: int = MOST_PROGRAMS,
    ):
        self.compiled = 0  # programs since the last were forgotten
        self._load = load
        self._profile = profile
        self._most = most_programs
        self._loaded: tuple[Offer, Model] | None = None
        jax.monitoring.register_event_duration_secs_listener(self._count)

    def holds(self, offer: Offer) -> bool:
        """Whether the model of an offer is in memory."""
        return self._loaded is not None and self._loaded[0] is offer

    def of(self, job: Job) -> Model:
        """The model of a job, for images of its shape; loaded in place of the one in memory."""
        if self._loaded is None or self._loaded[0] is not job.offer:
            self._loaded = None  # before the next one needs its memory
            self._loaded = job.offer, self._load(job.offer.workdir, job.offer.texts)
        model = self._loaded[1]
        if not job.asked.aspect and not job.asked.pixels:
            return model
        aspect = parse_aspect(job.asked.aspect) if job.asked.aspect else None
        return model.reshaped(aspect=aspect, pixels=job.asked.pixels or None)

    def compressed(self, model: Model, policy: Policy) -> Model:
        """The model with a policy, if one is named."""
        if not policy.name:
            return model
        return model.compressed(policy.name, profile=self._profile, **policy.sizes)

    def forget_programs(self) -> None:
        """Forgets compiled programs when there are too many: every ratio of a policy has its own.

        Each takes memory, and dozens of the mappings of which Linux allows a process 65,530.
        """
        if self.compiled > self._most:
            jax.clear_caches()
            self.compiled = 0

    def close(self) -> None:
        """Stops counting."""
        jax.monitoring.unregister_event_duration_listener(self._count)

    def _count(self, event: str, duration_secs: float, **kwargs: str | int) -> None:
        self.compiled += event == COMPILED

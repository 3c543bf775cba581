"""The command line that repeats what a visitor drew."""

import shlex
from typing import Any

from mvar_jax.serving.job import Job, Policy


def command(job: Job, policy: Policy, profile: str | None, text_encoder: str | None) -> str:
    """`python -m mvar_jax.sample ...`, or `edit` on image.png and mask.png, with these settings.

    profile, text_encoder: as the server's own flags name them
    """
    asked, edit = job.asked, job.edit
    subject = "prompt" if job.offer.texts else "label" if edit else "labels"
    flags: dict[str, Any] = {"workdir": job.offer.workdir, "text_encoder": text_encoder}
    flags |= {"aspect": asked.aspect or None, "pixels": asked.pixels or None}
    flags[subject] = asked.subject if asked.subject or not edit else None
    flags |= {"negative": asked.negative or None, "seed": asked.seed}
    if edit is None:
        flags |= {"columns": asked.columns, "out": "images.png"}
    else:
        source = "source_prompt" if job.offer.texts else "source_label"
        flags |= {"image": "image.png", "mask": "mask.png", source: edit.source or None}
        flags |= {"strength": edit.strength, "threshold": edit.threshold, "paste": edit.paste}
        flags |= {"feather": edit.feather, "out": "out.png"}
    flags |= asked.settings
    if policy.name:
        flags |= {"policy": policy.name, "profile": profile} | policy.sizes
    words = (_flag(name, value) for name, value in flags.items() if value is not None)
    program = "sample" if edit is None else "edit"
    return shlex.join(["python", "-m", f"mvar_jax.{program}", *words])


def _flag(name: str, value: Any) -> str:
    if isinstance(value, bool):
        return f"--{'' if value else 'no'}{name}"
    return f"--{name}={value}"

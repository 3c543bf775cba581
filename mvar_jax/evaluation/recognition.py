"""What recognises the images of a model, where its data allow that to be judged."""

from collections.abc import Callable, Sequence
from functools import partial

import numpy as np

from mvar_jax.config import Config
from mvar_jax.data.scene_captions import parse_object
from mvar_jax.evaluation.caption_judge import CaptionJudge, fresh_images
from mvar_jax.evaluation.class_conditional import ClassConditionalJudge
from mvar_jax.models import ClassLabels, Condition

REAL = 512  # images of captions that a judge of captions is itself judged on

Recognize = Callable[[np.ndarray], float]
"""The share of images in [-1, 1], one for every condition, that are recognised as theirs."""


def find_recognizer(
    config: Config, condition: Condition, prompts: Sequence[str]
) -> tuple[Recognize, float] | None:
    """What recognises classes, or class and hue of captioned scenes, and its share of real images.

    None for other texts. Fitting it takes up to a minute. Raises ValueError for captions that are
    not those of scenes.
    """
    if isinstance(condition, ClassLabels):
        judge = ClassConditionalJudge.of(config)
        return partial(judge.accuracy, labels=condition.label), judge.real()["label_accuracy_real"]
    if not config.data.name.startswith("shapes/"):
        return None
    for prompt in prompts:
        parse_object(prompt)  # before anything runs long
    side = config.tokenizer.image_size[0]
    captions = CaptionJudge(side)
    real = captions.judge(*fresh_images(REAL, side, held_out=True)).both
    return lambda images: captions.judge(images, prompts).both, real

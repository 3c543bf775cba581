"""What a calibration measured of a model's attention, as a file that can be checked."""

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mvar_jax.checks import check
from mvar_jax.files import load_json, write_text
from mvar_jax.scales import ScaleSchedule

FORMAT = "mvar_jax attention profile 2"
# The field with the name of the weights, per format; format 1 named three embeddings only.
FORMATS = {"mvar_jax attention profile 1": "fingerprint", FORMAT: "checksum"}


@dataclass(frozen=True, eq=False)
class Profile:
    """Averages over samples of the full cache's attention, conditional rows only, float32.

    Layers are those that attend over the history, in order of depth; attention is the softmax
    of one head's queries at one scale over all keys up to that scale.
    """

    checksum: str  # of the model's weights
    sizes: tuple[tuple[int, int], ...]  # of the scales
    samples: int
    head_variance: np.ndarray  # [layers, heads]: how much attention at the last scale varies
    mass: np.ndarray  # [layers, heads, scales, scales]: share of queries' scale on keys' scale
    selectivity: np.ndarray  # [layers, scales]: ScaleKV's attention selectivity index
    # [layers, scales]: cosine of each key with the one at its place in the scale before, or None
    # in files of earlier versions
    key_similarity: np.ndarray | None = None
    format: str = FORMAT

    @property
    def schedule(self) -> ScaleSchedule:
        """The scales that it was measured over."""
        return ScaleSchedule(self.sizes)

    @property
    def names_all_weights(self) -> bool:
        """Whether its checksum is that of all weights, not of three embeddings only."""
        return self.format == FORMAT

    def check_fits(self, checksum: str, schedule: ScaleSchedule, layers: int, heads: int) -> None:
        """Raises ValueError unless it was measured on this model and schedule.

        `checksum` is the model's: of all weights, or of embeddings if not `names_all_weights`.
        """
        sides = [f"{height}x{width}" for height, width in self.sizes]
        check(
            self.schedule == schedule,
            f"profile: it was made for the scales {', '.join(sides)}, but the model has "
            f"{', '.join(f'{height}x{width}' for height, width in schedule.sizes)}; "
            "make one with python -m mvar_jax.calibrate.",
        )
        check(
            self.head_variance.shape == (layers, heads),
            f"profile: it was made for {self.head_variance.shape[0]} layers of "
            f"{self.head_variance.shape[1]} heads, but the model has {layers} of {heads}; make one "
            "with python -m mvar_jax.calibrate.",
        )
        check(
            self.checksum == checksum,
            f"profile: it was made for the weights {self.checksum[:12]}, but the model's are "
            f"{checksum[:12]}; make one with python -m mvar_jax.calibrate.",
        )

    def save(self, path: Path) -> None:
        """Writes a JSON file, whole or not at all."""
        fields = {
            name: value.tolist() if isinstance(value, np.ndarray) else value
            for name, value in vars(self).items()
            if value is not None
        }
        names = {"format": fields.pop("format"), FORMATS[self.format]: fields.pop("checksum")}
        write_text(path, json.dumps(names | fields))

    @classmethod
    def load(cls, path: Path) -> "Profile":
        """Reads what `save` wrote. Raises ValueError for any other file."""
        try:
            fields = load_json(path)
            written = fields.pop("format")
            profile = cls(
                format=written,
                checksum=str(fields.pop(FORMATS[written])),
                sizes=tuple((int(height), int(width)) for height, width in fields.pop("sizes")),
                samples=int(fields.pop("samples")),
                **{name: np.asarray(value, np.float32) for name, value in fields.items()},
            )
            sound = profile._is_sound()
        except FileNotFoundError:
            raise ValueError(
                f"{path}: no such profile; make one with python -m mvar_jax.calibrate."
            ) from None
        except (OSError, ArithmeticError, AttributeError, KeyError, TypeError, ValueError):
            sound = False
        check(sound, f"{path}: not a profile that python -m mvar_jax.calibrate wrote.")
        return profile

    def _is_sound(self) -> bool:
        """Whether the shapes of all arrays fit together, and all values are finite and in range."""
        layers, heads = self.head_variance.shape
        scales, similarity = len(self.schedule), self.key_similarity
        shares = (self.head_variance, self.mass, self.selectivity)
        return (
            self.mass.shape == (layers, heads, scales, scales)
            and self.selectivity.shape == (layers, scales)
            and all(np.isfinite(array).all() and array.min() >= 0 for array in shares)
            and (
                similarity is None
                or (similarity.shape == (layers, scales) and bool(np.all(abs(similarity) < 1.01)))
            )
        )

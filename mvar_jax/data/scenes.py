"""Scenes: one object on a patterned ground, seen from above in slanting light.

`draw_scene` chooses everything that is free from a seed and an index; `render` paints a scene at
any resolution. The image spans [-1, 1] along both sides, x to the right and y down.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float32, UInt8

from mvar_jax.data.outlines import OUTLINES
from mvar_jax.data.patterns import PATTERNS

CLASSES = tuple(OUTLINES)
# How an object rises from its edge: round like a ball, in flat slopes, or flat with a bevel.
RISES = {"pyramid": "slope", "star": "slope", "box": "bevel", "cross": "bevel", "gear": "bevel"}
DEPTHS = {"ball": 0.82, "ring": 0.25, "pill": 0.36, "heart": 0.5, "crescent": 0.36}
AMBIENT, DIFFUSE, GLOSS = 0.42, 0.7, 0.45
SHADOW = 0.6
UPPER_LEFT = -0.75 * np.pi


HUES = ("red", "orange", "lime", "green", "cyan", "blue", "violet", "pink")  # of objects
GROUND_HUES = ("red", "yellow", "green", "cyan", "blue", "magenta")


@dataclass(frozen=True)
class Surface:
    """A pattern in two colours, turned, moved and scaled. `hue` is the name of their hue."""

    hue: str
    bright: bool
    pattern: str
    colors: np.ndarray  # [2, 3], from 0 to 1
    angle: float
    period: float
    phase: np.ndarray  # [2], in periods

    def paint(self, x: np.ndarray, y: np.ndarray, pixel: float) -> Float32[np.ndarray, "h w 3"]:
        """Colours at places of the plane; `pixel` is the size of a pixel there."""
        u, v = _turned(x / np.float32(self.period), y / np.float32(self.period), self.angle)
        u, v = u + np.float32(self.phase[0]), v + np.float32(self.phase[1])
        mix = PATTERNS[self.pattern](u, v, pixel / self.period)[..., None]
        first, second = self.colors.astype(np.float32)
        return first + mix * (second - first)


@dataclass(frozen=True)
class Scene:
    """Everything that an image shows. Lengths are in halves of the image's side."""

    label: int
    center: np.ndarray  # [2]
    radius: float
    angle: float
    light: np.ndarray  # [3], a unit vector towards the light
    falloff: float  # how much brighter the ground is on the light's side
    object: Surface
    ground: Surface


def draw_scene(seed: int, index: int) -> Scene:
    """The scene of an index in the series of a seed. Labels take turns: index modulo 10.

    The object lies wholly inside the image, tilted a little, one of object and ground bright and
    the other dark. Few hues, and patterns along the sides of the ground, keep what is to be
    learned small next to what minutes of training can teach.
    """
    random = np.random.default_rng((seed, index))
    radius = random.uniform(0.62, 0.84)
    azimuth, elevation = UPPER_LEFT + random.uniform(-0.5, 0.5), random.uniform(0.75, 0.9)
    across = np.cos(elevation)
    light = np.array([across * np.cos(azimuth), across * np.sin(azimuth), np.sin(elevation)])
    bright = random.uniform() < 0.5
    return Scene(
        label=index % len(CLASSES),
        center=random.uniform(radius - 1, 1 - radius, 2),
        radius=radius,
        angle=random.uniform(-0.3, 0.3),
        light=light,
        falloff=random.uniform(0.1, 0.25),
        object=_object_surface(random, bright),
        ground=_ground_surface(random, not bright),
    )


def render(scene: Scene, side: int) -> UInt8[np.ndarray, "side side 3"]:
    """The image of a scene, `side` pixels along each side, edges smoothed over a pixel."""
    places = ((np.arange(side, dtype=np.float32) + 0.5) * np.float32(2 / side) - 1).astype("f4")
    y, x = np.meshgrid(places, places, indexing="ij")
    pixel = 2 / side
    own = _to_object(scene, x, y)
    distance = OUTLINES[CLASSES[scene.label]](*own)
    ground = scene.ground.paint(x, y, pixel) * _ground_light(scene, x, y, distance)[..., None]
    body = scene.object.paint(*own, pixel / scene.radius)
    diffuse, gloss = _object_light(scene, distance)
    body = body * diffuse[..., None] + gloss[..., None]
    cover = np.clip(0.5 - distance * np.float32(scene.radius / pixel), 0, 1)[..., None]
    image = ground + cover * (body - ground)
    return np.round(np.clip(image, 0, 1) * 255).astype(np.uint8)


def _to_object(scene: Scene, x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    left, top = scene.center.astype(np.float32)
    scale = np.float32(1 / scene.radius)
    return _turned((x - left) * scale, (y - top) * scale, scene.angle)


def _turned(x: np.ndarray, y: np.ndarray, angle: float) -> tuple[np.ndarray, np.ndarray]:
    cos, sin = np.float32(np.cos(angle)), np.float32(np.sin(angle))
    return cos * x + sin * y, cos * y - sin * x


def _ground_light(scene: Scene, x: np.ndarray, y: np.ndarray, distance: np.ndarray) -> np.ndarray:
    """Brightness of the ground: falling off away from the light, less in the object's shadow."""
    toward = scene.light[:2] / np.hypot(*scene.light[:2])
    right, down = (scene.falloff * toward).astype(np.float32)
    bright = 1 + right * x + down * y
    shift = 0.22 * scene.radius * toward
    shifted = _to_object(scene, x + np.float32(shift[0]), y + np.float32(shift[1]))
    behind = OUTLINES[CLASSES[scene.label]](*shifted)
    near = np.clip(0.55 - np.minimum(behind, distance + 0.12) * np.float32(2.6), 0, 1)
    return bright * (1 - np.float32(SHADOW) * near * near * (3 - 2 * near))


def _object_light(scene: Scene, distance: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Factor of the object's colours and gloss added to them, from the slope of its surface."""
    name = CLASSES[scene.label]
    down, right = np.gradient(distance)
    length = np.maximum(np.hypot(down, right), np.float32(1e-6))
    rise = RISES.get(name, "round")
    if rise == "round":
        lean = 1 + distance / np.float32(DEPTHS[name])
    elif rise == "slope":
        lean = np.full_like(distance, 0.55)
    else:
        lean = 0.8 * np.clip(1.5 + distance * np.float32(6), 0, 1)
    lean = np.clip(lean, 0, np.float32(0.95))
    level = np.sqrt(1 - lean * lean)
    to_light, half = scene.light.astype(np.float32), _half_way(scene.light)

    def cosine(vector):
        slanted = (right * vector[0] + down * vector[1]) * (lean / length)
        return np.maximum(slanted + level * vector[2], 0)

    return AMBIENT + DIFFUSE * cosine(to_light), GLOSS * cosine(half) ** 32


def _half_way(light: np.ndarray) -> np.ndarray:
    """The direction between the light and the viewer, who looks from above."""
    middle = light + np.array([0, 0, 1])
    return (middle / np.linalg.norm(middle)).astype(np.float32)


def _object_surface(random: np.random.Generator, bright: bool) -> Surface:
    """A vivid surface: light with a darker pattern, or dark with a lighter one."""
    hue, value = int(random.integers(len(HUES))), 0.9 if bright else 0.5
    color = _rgb(hue / 8 + random.uniform(-0.02, 0.02), random.uniform(0.7, 0.95), value)
    return Surface(
        hue=HUES[hue],
        bright=bright,
        pattern=str(random.choice(list(PATTERNS))),
        colors=np.stack([color, color * 0.6 if bright else 1 - 0.55 * (1 - color)]),
        angle=random.integers(2) * np.pi / 2,
        period=0.7,
        phase=np.zeros(2),
    )


def _ground_surface(random: np.random.Generator, bright: bool) -> Surface:
    """A dull surface, its pattern along the image's sides."""
    hue, value = int(random.integers(len(GROUND_HUES))), 0.85 if bright else 0.42
    color = _rgb(hue / 6 + random.uniform(-0.02, 0.02), random.uniform(0.2, 0.35), value)
    return Surface(
        hue=GROUND_HUES[hue],
        bright=bright,
        pattern=str(random.choice(["plain", "stripes", "checks"])),
        colors=np.stack([color, color * 0.78]),
        angle=random.integers(2) * np.pi / 2,
        period=1.0,
        phase=random.integers(4, size=2) / 4,
    )


def _rgb(hue: float, saturation: float, value: float) -> np.ndarray:
    """The colour of a hue from 0 to 1 (taken modulo 1), saturation and value."""
    spread = np.abs((hue + np.array([0, 2 / 3, 1 / 3])) % 1 * 6 - 3) - 1
    return value * (1 - saturation + saturation * np.clip(spread, 0, 1))

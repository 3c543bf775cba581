"""Rotary angles: ours, and the ways of placing tokens that the original has besides."""

import re

import jax.numpy as jnp
import numpy as np

from mvar_jax.config import infinity_schedule
from mvar_jax.ops.rotary import grid_coordinates, rotary_angles, rotate
from tests.infinity_reference import InfinityFile

GIVEN = re.compile(r"apply_[qk]")
CELLS = 128  # of the grid whose angles are interpolated
PADDING = 128  # tables are padded to a multiple
ROTATED = ("1.5", "0.06M", 3)  # aspect, budget and scale of the rotated arrays


def raw_angles(sizes, grid, dim):
    """Angles of the rows and columns of every scale, each counted from 0."""
    del grid
    counted = [rotary_angles((size,), size, dim) for size in sizes]
    return tuple(np.concatenate(arrays) for arrays in zip(*counted))


def interpolated_angles(sizes, grid, dim):
    """Cosines and sines of a fixed grid of the ratio's shape, resized to every scale."""
    short, long = sorted(grid)
    cut = int(CELLS * short / long)
    cells = (CELLS, cut) if grid[0] > grid[1] else (cut, CELLS)
    cells = (CELLS, CELLS) if short == long else cells
    maps = [table.reshape(*cells, -1) for table in rotary_angles((cells,), cells, dim)]
    return tuple(
        np.concatenate([_resized(each, size) for size in sizes]).astype(np.float32) for each in maps
    )


def _resized(maps, size):
    """Bilinear, with the corners aligned; tokens row by row."""
    rows, columns = (_matrix(old, new) for old, new in zip(maps.shape, size))
    return np.einsum("ij,jkc,lk->ilc", rows, maps, columns).reshape(-1, maps.shape[-1])


def _matrix(old, new):
    places = np.linspace(0, old - 1, new) if new > 1 else np.zeros(1)
    return np.maximum(0, 1 - np.abs(places[:, None] - np.arange(old)))


MODES = {"0": raw_angles, "1": interpolated_angles, "2": rotary_angles}


def compute(file: InfinityFile) -> dict[str, np.ndarray]:
    """Every array, by its stored name."""
    computed = {}
    for match in file.match(r"cache_hd(\d+)_mode(\d)_ratio([\d.]+)(_first\d+)?"):
        dim, mode, ratio, _ = match.groups()
        schedule = infinity_schedule(f"{float(ratio):g}", "1M")
        angles = np.stack(MODES[mode](schedule.sizes, schedule.last, int(dim)))
        padded = np.pad(angles, ((0, 0), (0, -angles.shape[1] % PADDING), (0, 0)))
        computed[match.group()] = padded[:, : file[match.group()].shape[1]]
    for match in file.match(r"coords_mode2_ratio([\d.]+)"):
        schedule = infinity_schedule(f"{float(match.group(1)):g}", "1M")
        computed[match.group()] = grid_coordinates(schedule.sizes, schedule.last)
    aspect, pixels, scale = ROTATED
    schedule, last = infinity_schedule(aspect, pixels), infinity_schedule(aspect, "1M").last
    angles = rotary_angles(schedule.sizes, last, file["apply_q"].shape[-1])
    own = tuple(array[schedule.slices[scale]] for array in angles)
    rotated = {f"apply_{x}_out": rotate(jnp.asarray(file[f"apply_{x}"]), own) for x in "qk"}
    return computed | rotated

"""What an image costs as it grows, by model: FLOPs, memory and the least time. A table and a plot.

    python docs/growth.py growth

Traces the sampler of one image with guidance for VAR, VAR under three cache policies, M-VAR and a
mixture of both, at growing sizes, as plain JAX would run on a TPU v5e. Nothing is compiled or run,
and no weights are needed.
"""

import math
import sys
from collections.abc import Iterator, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import AbstractMesh
from matplotlib.figure import Figure

from mvar_jax.benchmark.common import with_schedule
from mvar_jax.compilation.chips import TPUS
from mvar_jax.compilation.program import Cost
from mvar_jax.compilation.report import Part
from mvar_jax.compilation.sampling_check import policy_plan
from mvar_jax.compilation.traced_program import traced_flops
from mvar_jax.config import Config
from mvar_jax.config.files import load_config
from mvar_jax.config.tree import from_config_dict
from mvar_jax.evaluation.markdown import markdown_header, markdown_line, markdown_table
from mvar_jax.files import write_text, written_whole
from mvar_jax.models import example_condition
from mvar_jax.models.flops import matmul_flops
from mvar_jax.ops.noise import image_keys
from mvar_jax.ops.parts import in_one_part
from mvar_jax.sampling import Filters, Request, Sampler, Weights
from mvar_jax.sampling.carried_bytes import carried_bytes
from mvar_jax.sampling.generate import begin, draw_scale
from mvar_jax.scales import VAR_SCHEDULES, ScaleSchedule
from mvar_jax.training.weights import tokenizer_shapes, trunk_shapes

CONFIGS = ("var_imagenet256.py:d16", "mvar_imagenet256.py:d16")
SIDES = "256,512,1024,2048"  # of images, in pixels
STRIDE = 16  # pixels of a token
POLICIES = {"HACK": "hack", "ScaleKV": "scalekv", "HeatKV": "heatkv"}
RATIO = 0.7  # of all tokens is evicted
MIXTURE = ("scale+ssm", "history")
CHIP = TPUS["v5e"]
V5E = AbstractMesh(
    (1, 1, 1),
    ("data", "fsdp", "tensor"),
    abstract_device=jax.sharding.AbstractDevice("TPU v5 lite", num_cores=1, platform="tpu"),
)
COLUMNS = ("pixels", "tokens", "model", "TFLOP", "of formula", "carried MB", "read GB", "least ms")
COLUMNS += ("scales bound by reading",)


class Model(NamedTuple):
    """A trunk, and the policy of its cache, None to keep everything."""

    config: Config
    policy: str | None = None


class Growth(NamedTuple):
    """What one image with guidance costs, without the decoder."""

    flops: int  # of all matmuls
    carried: int  # most bytes from one scale to the next
    read: int  # bytes, at least
    seconds: float  # at least
    reading: int  # scales whose reading takes longer than their matmuls


def schedule_of(side: int) -> ScaleSchedule:
    """The published scales of an image of this side, or those of `three_quarters`."""
    return VAR_SCHEDULES.get(str(side)) or three_quarters(side // STRIDE)


def three_quarters(tokens: int) -> ScaleSchedule:
    """Sides of 3/4 of the next, from the last one down, rounded up: as published for 1024 pixels.

    Those published for 256 and 512 follow no such rule.
    """
    return ScaleSchedule.squares(*sorted({math.ceil(tokens * 0.75**step) for step in range(64)}))


def models(var: Config, mvar: Config) -> dict[str, Model]:
    """The models that are compared, by name."""
    mixture = replace(mvar, model=replace(mvar.model, pattern=MIXTURE))
    cut = {f"VAR, {name}": Model(var, policy) for name, policy in POLICIES.items()}
    return {"VAR": Model(var), **cut, "M-VAR": Model(mvar), "mixture": Model(mixture)}


def programs(config: Config, sampler: Sampler, weights: Weights) -> Iterator:
    """What one image with guidance runs: the condition's program, then one per scale, traced."""
    keys = image_keys(0, np.arange(1, dtype=np.uint32))
    filters = Filters.of(config.sampling, len(sampler.scales))
    request = Request(example_condition(config.model, 1), keys, filters)
    program, carried = jax.make_jaxpr(partial(begin, sampler), return_shape=True)(weights, request)
    yield program
    for scale in range(len(sampler.scales)):

        def draw(weights, request, carried, scale=scale):
            return draw_scale(sampler, weights, request, carried, scale)[0]

        program, carried = jax.make_jaxpr(draw, return_shape=True)(weights, request, carried)
        yield program


def weight_bytes(config: Config) -> tuple[int, int]:
    """Bytes, in the compute dtype, of the matrices that are read once, and at every scale.

    The first are those of adaLN, whose vectors are the same at all scales. Embeddings that are
    looked up by row do not count.
    """
    leaves = jax.tree_util.tree_leaves_with_path(trunk_shapes(config))
    sizes = {jax.tree_util.keystr(path): leaf.size for path, leaf in leaves if len(path) > 1}
    once = sum(size for name, size in sizes.items() if "modulation" in name)
    itemsize = jnp.dtype(config.model.compute_dtype).itemsize
    return once * itemsize, (sum(sizes.values()) - once) * itemsize


def measure(model: Model) -> Growth:
    """Traces all programs of a model.

    A program reads at least its weights, and what the scale before left. Layers under a policy have
    the mean lengths of its plan by made-up statistics.
    """
    config = replace(model.config, model=replace(model.config.model, kernels="xla"))
    sampler = Sampler.of(config)
    weights = Weights(trunk_shapes(config), tokenizer_shapes(config))
    if model.policy is not None:
        plan = policy_plan(model.policy, None, ratio=RATIO)
        compression = plan(sampler.scales, sampler.trunk.attention_shape)
        weights = replace(weights, compression=compression)
    with in_one_part(), jax.sharding.use_abstract_mesh(V5E):
        flops = [traced_flops(program.jaxpr) for program in programs(config, sampler, weights)]
    carried, (once, each) = carried_bytes(sampler, weights), weight_bytes(config)
    read = [once, *(each + held for held in (0, *carried[:-1]))]
    parts = [Part("a scale", Cost(*figures, exchanged={})) for figures in zip(flops, read)]
    reading = [r / CHIP.memory_bandwidth > f / CHIP.peak_flops for f, r in zip(flops, read)]
    seconds = sum(part.seconds(CHIP) for part in parts)
    return Growth(sum(flops), max(carried), sum(read), seconds, sum(reading[1:]))


def cells(side: int, name: str, model: Model, growth: Growth) -> tuple[str, ...]:
    """A row of the table; the formula knows no policies."""
    config = model.config
    schedule, vocabulary = config.tokenizer.schedule, config.tokenizer.vocabulary
    formula = 2 * matmul_flops(config.model, schedule, vocabulary)
    return (
        *(str(side), str(schedule.total), name, f"{growth.flops / 1e12:.4g}"),
        "" if model.policy else f"{growth.flops / formula:.4f}",
        *(f"{growth.carried / 1e6:.4g}", f"{growth.read / 1e9:.3g}"),
        *(f"{growth.seconds * 1e3:.3g}", f"{growth.reading} of {len(schedule)}"),
    )


def weights_read(var: Config, mvar: Config) -> Iterator[tuple[str, ...]]:
    """The bytes of the weights, a row for each trunk."""
    for name, model in models(var, mvar).items():
        if model.policy is None:
            yield (name, *(f"{size / 1e6:.0f}" for size in weight_bytes(model.config)))


Table = Mapping[str, Mapping[int, Growth]]  # by model and side


def crossings(table: Table, name: str) -> Iterator[tuple[str, ...]]:
    """Where a model is cheaper than each of the others, a row for each."""
    for other, theirs in table.items():
        pairs = [(side, table[name][side], growth) for side, growth in theirs.items()]
        found = (
            [side for side, one, two in pairs if getattr(one, field) < getattr(two, field)]
            for field in ("flops", "carried", "seconds")
        )
        if other != name:
            yield (other, *(", ".join(map(str, sides)) or "nowhere" for sides in found))


def plot(table: Table) -> Figure:
    """FLOPs, bytes and time against the side of the image, and as multiples of VAR's."""
    measures = {
        "TFLOP": lambda growth: growth.flops / 1e12,
        "MB carried from scale to scale": lambda growth: growth.carried / 1e6,
        "ms at least, by FLOPs and reading, one v5e": lambda growth: 1e3 * growth.seconds,
    }
    figure = Figure((13, 8), layout="constrained")
    axes, first = figure.subplots(2, len(measures), sharex=True), next(iter(table.values()))
    for (above, below), (title, measure_of) in zip(axes.T, measures.items()):
        for index, (name, growths) in enumerate(table.items()):
            style = {"color": f"C{index}", "marker": "os^vDP"[index], "label": name}
            style["linestyle"] = ("-", "--")[index % 2]  # where two lines are one
            values = [measure_of(growth) for growth in growths.values()]
            shares = [value / measure_of(first[side]) for side, value in zip(growths, values)]
            above.loglog(list(growths), values, **style)
            below.semilogx(list(growths), shares, **style)
        above.set(title=title)
        below.set(title="of VAR's", xlabel="side of the image, pixels", ylim=(0, None))
        below.set_xticks(list(first), [str(side) for side in first])
        below.minorticks_off()
        for ax in (above, below):
            ax.grid(alpha=0.3)
    axes[0, 0].legend(fontsize=8)
    return figure


def main(out: str, var: str = CONFIGS[0], mvar: str = CONFIGS[1], sides: str = SIDES) -> None:
    """Prints the tables, and writes them and the plot into a folder."""
    folder, table, rows = Path(out), {}, []
    folder.mkdir(parents=True, exist_ok=True)
    configs = [from_config_dict(load_config(name), Config) for name in (var, mvar)]
    print(markdown_header(COLUMNS))
    for side in map(int, sides.split(",")):
        sized = [with_schedule(config, schedule_of(side)) for config in configs]
        for name, model in models(*sized).items():
            growth = measure(model)
            table.setdefault(name, {})[side] = growth
            rows.append(cells(side, name, model, growth))
            print(markdown_line(rows[-1]), flush=True)
    tables = [markdown_table(COLUMNS, rows)]
    for name in ("M-VAR", "mixture"):
        header = (f"{name} is cheaper than", "in FLOPs at", "in bytes carried at", "in time at")
        tables.append(markdown_table(header, crossings(table, name)))
    tables.append(
        markdown_table(("weights of", "MB once an image", "MB a scale"), weights_read(*sized))
    )
    print("", *tables[1:], sep="\n\n")
    write_text(folder / "growth.md", "\n\n".join(tables) + "\n")
    with written_whole(folder / "growth.png") as draft:
        plot(table).savefig(draft, dpi=120, format="png")


if __name__ == "__main__":
    main(*sys.argv[1:])

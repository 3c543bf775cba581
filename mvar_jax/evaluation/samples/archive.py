"""Images as one archive for `np.load`, in the form that the evaluators of ADM read."""

import zipfile
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from mvar_jax.checks import check
from mvar_jax.evaluation.samples.parts import Pixels
from mvar_jax.files import written_whole

MEMBER = "arr_0.npy"
FIRST_DAY = (1980, 1, 1, 0, 0, 0)  # of zip files, whatever the clock says


def write_archive(file: Path, shape: tuple[int, int, int, int], blocks: Iterable[Pixels]) -> None:
    """Writes a .npz whose only array, `arr_0`, is uint8 [images, height, width, 3].

    It is not compressed. Memory holds one block at a time; equal images give equal bytes. The file
    is there whole or not at all. Raises ValueError unless the blocks have `shape[0]` images.
    """
    member = zipfile.ZipInfo(MEMBER, FIRST_DAY)
    member.create_system = 3  # on any system
    header = {"descr": "|u1", "fortran_order": False, "shape": shape}
    written = 0
    with (
        written_whole(file) as draft,
        zipfile.ZipFile(draft, "w") as archive,
        archive.open(member, "w", force_zip64=True) as stream,
    ):
        np.lib.format.write_array_header_1_0(stream, header)
        for block in blocks:
            stream.write(np.ascontiguousarray(block).data)
            written += len(block)
        check(written == shape[0], f"{file}: got {written} images, expected {shape[0]}.")

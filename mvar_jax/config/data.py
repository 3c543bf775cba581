"""Which data is read, and how."""

from dataclasses import dataclass

from mvar_jax.checks import check, check_range


@dataclass(frozen=True)
class DataConfig:
    """Which images are read, and how they are prepared.

    name: a TFDS builder, "folder" for a folder with one folder per class, or "jsonl" for captioned
        images.
    directory: the folder of images, or of prepared datasets ("" is TFDS's own default, the
        environment variable TFDS_DATA_DIR or ~/tensorflow_datasets).
    augmentation: "crop" (short side resized to `resize_ratio` times the image, then a random crop:
        the official recipe), "shift" (moved by up to `max_shift` pixels, the border repeated) or
        "none".
    num_threads, num_workers: threads that read images, or, unless it is 0, processes.
    captions: whether images have captions in place of classes: those of `shapes` describe the
        scenes, those of a "folder" lie in a .txt beside each image, those of "jsonl" in lines of
        JSON as Infinity's data is published.
    text_encoder: what turns captions into features: the folder of a T5, one that
        `python -m mvar_jax.encode_text` wrote, or "wordllama", the embeddings of that package.
    short_caption_rate: how often training takes the short caption of an image, or the first
        sentences of a long one; otherwise it takes more sentences. 0 always takes the whole.
    aspects: further aspect ratios, height / width, such as "1.5": each batch holds images of one
        ratio, and an image belongs to the nearest. Only of "jsonl", which tells the ratios.
    tokens, validation_tokens: directories written by `python -m mvar_jax.tokenize`; the trunk is
        then trained, or validated, on these instead of images.
    """

    name: str = "imagenet"
    directory: str = ""
    train_split: str = "train"
    validation_split: str = "validation"
    augmentation: str = "crop"
    resize_ratio: float = 1.125
    max_shift: int = 1
    num_threads: int = 16
    num_workers: int = 0
    captions: bool = False
    text_encoder: str = ""
    short_caption_rate: float = 0.0
    aspects: tuple[str, ...] = ()
    tokens: str = ""
    validation_tokens: str = ""

    def __post_init__(self):
        kinds = ("crop", "shift", "none")
        check(
            self.augmentation in kinds,
            f"data.augmentation: got {self.augmentation!r}, expected one of {kinds}.",
        )
        check_range("data.short_caption_rate", self.short_caption_rate, 0.0, 1.0)
        check(
            not self.aspects or self.name == "jsonl",
            f"data.aspects: got {', '.join(self.aspects)} for {self.name}, expected none; only "
            "data.name 'jsonl' tells the ratios of images.",
        )
        check_range("data.resize_ratio", self.resize_ratio, 1.0, 4.0)
        check_range("data.max_shift", self.max_shift, 0, 64)
        check_range("data.num_threads", self.num_threads, 0, 512)
        check_range("data.num_workers", self.num_workers, 0, 512)

"""BMLAMA-53: cloze facts in 53 languages, fewer and shorter than those of BMLAMA-17; same files, same reader.

Source and format: see `bmlama17.py`. Its folder is BMLAMA53 of the metric's repository.
"""

import dataclasses
import functools

from consistency_jax.data.sources import bmlama17
from consistency_jax.data.sources.source import Experiment

LANGUAGES = (
    *("ca", "az", "en", "ar", "uk", "fa", "tr", "it", "el", "ru", "hr", "hi", "sv", "sq"),
    *("fr", "ga", "eu", "de", "nl", "et", "he", "es", "bn", "ms", "sr", "hy", "ur", "hu"),
    *("la", "sl", "cs", "af", "gl", "fi", "ro", "ko", "cy", "th", "be", "id", "pt", "vi"),
    *("ka", "ja", "da", "bg", "zh", "pl", "lv", "sk", "lt", "ta", "ceb"),
)
SOURCE = dataclasses.replace(bmlama17.SOURCE, languages=LANGUAGES, train_size=0.7, experiment=Experiment())

read = functools.partial(bmlama17.read_edition, "bmlama53", 0)

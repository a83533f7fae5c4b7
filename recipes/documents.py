"""English web text to training tokens: FineWeb's filters, then what the Gemma report adds.

    gemwright data run recipes/documents.py --input FOLDER --out runs/documents

Copy the file to change it: a recipe is a Python function. With BENCHMARKS and TOKENIZER given it also removes their
items and ends in token streams. What comes of it is in OUT/report.html and OUT/summary.json.
"""

from gemwright.data.leaks.search import Decontaminate
from gemwright.data.personal.redact import Personal
from gemwright.data.pipeline.recipe import Filter, Recipe
from gemwright.data.repeats.exact import Exact
from gemwright.data.repeats.near import Near
from gemwright.data.repeats.passages import Passages
from gemwright.data.rules.blocked import SelfIdentification
from gemwright.data.rules.c4 import C4
from gemwright.data.rules.fineweb import FineWeb
from gemwright.data.rules.gopher import GopherQuality
from gemwright.data.rules.language import Language
from gemwright.data.rules.learned import Learned, quality
from gemwright.data.rules.repetition import GopherRepetition
from gemwright.data.step import Step

BENCHMARKS: tuple[str, ...] = ()  # folders; leave none out that the model will be examined with
TOKENIZER: str | None = None  # tokenizer.model, or a folder with one


def recipe() -> Recipe:
    """Cheap rules first; what must see all documents after them; personal data, the dearest, in what is left."""
    web = (
        Language(("en",)),
        GopherRepetition(),
        GopherQuality(),
        C4(terminal_punctuation=False),
        FineWeb(),
        quality(),
        SelfIdentification(),
        Learned("toxicity"),
    )
    steps: tuple[Step, ...] = (
        Filter(web),
        Exact(),
        Near(),
        Passages(words=50),
        Passages(words=25, copies=10, name="recitation"),
        *((Decontaminate(BENCHMARKS),) if BENCHMARKS else ()),
        Filter((Personal(),), name="personal"),
    )
    return Recipe(steps=steps, tokenizer=TOKENIZER)

"""Which mixture of a run's sources is best, told by small proxies.

    gemwright data run recipes/documents.py --input FOLDER --out runs/documents   (with TOKENIZER given there)
    gemwright data ablate recipes/ablation.py --out runs/ablation

Copy the file to change it. A proxy of the usual size takes about a minute of a CPU core for a small vocabulary.
"""

import json
from pathlib import Path

from gemwright.training.ablation import Ablation

DOCUMENTS = Path("runs/documents")
TOKENIZER = Path("src/gemwright/default_model/tokenizer.model")


def ablation() -> Ablation:
    """As many tokens of each as there are, equal shares, and each source doubled."""
    found = json.loads((DOCUMENTS / "tokens" / "manifest.json").read_text(encoding="utf-8"))["sources"]
    equal = dict.fromkeys(found, 1.0)
    doubled = {f"more {source}": equal | {source: 2.0} for source in found}
    return Ablation(DOCUMENTS, TOKENIZER, {"as it is": found, "equal": equal, **doubled})

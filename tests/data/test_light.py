import os
import subprocess
import sys
from pathlib import Path

HEAVY = ["daft", "pyarrow", "spacy", "ray", "presidio_analyzer", "sklearn", "py3langid", "resiliparse", "warcio"]


def test_importing_the_package_brings_in_none_of_the_extras_of_documents() -> None:
    program = f"import sys, gemwright, gemwright.data.documents; print(sorted(set({HEAVY!r}) & sys.modules.keys()))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_documents_are_judged_without_the_networks_that_are_installed(tmp_path: Path) -> None:
    """They would take more memory than everything else; who asks for them later gets them."""
    for name in ("torch", "transformers", "cupy"):
        (tmp_path / f"{name}.py").write_text(f"print('{name} was loaded')")
    program = """
from gemwright.data.personal.redact import find_personal
from gemwright.data.rules.words import english_words, line_ends
print(*(span.kind for span in find_personal("My card is 4111 1111 1111 1111.")))
print(len(english_words(["Who's there?"]).ids))
line_ends()
import torch
"""
    paths = os.pathsep.join([str(tmp_path), *sys.path])
    done = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        check=True,
        env=os.environ | {"PYTHONPATH": paths},
    )
    assert done.stdout == "card number\n4\ntorch was loaded\n"


def test_networks_that_are_loaded_already_stay() -> None:
    program = """
import sys, types
sys.modules["torch"] = loaded = types.ModuleType("torch")
from gemwright.data.rules.light import without_networks
with without_networks():
    assert sys.modules["torch"] is loaded and sys.modules["transformers"] is None
assert sys.modules["torch"] is loaded and "transformers" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", program], check=True)

import subprocess
import sys

HEAVY = ["daft", "pyarrow", "spacy", "ray", "presidio_analyzer", "sklearn", "py3langid", "resiliparse", "warcio"]


def test_importing_the_package_brings_in_none_of_the_extras_of_documents() -> None:
    program = f"import sys, gemwright, gemwright.data.documents; print(sorted(set({HEAVY!r}) & sys.modules.keys()))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"

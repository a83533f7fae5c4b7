import json
import math

from gemwright.cli.strict_json import dumps


def test_what_has_no_value_is_null_at_any_depth() -> None:
    said = {"interval": {"low": -math.inf, "mean": 1.5}, "scores": (math.nan, [math.inf, 2]), "name": "NaN"}
    expected = {"interval": {"low": None, "mean": 1.5}, "scores": [None, [None, 2]], "name": "NaN"}
    assert json.loads(dumps(said)) == expected

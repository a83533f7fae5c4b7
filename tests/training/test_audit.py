"""A step is computed again on demand; what was logged otherwise is found."""

import json
from pathlib import Path

import pytest

from gemwright.training.audit import audit
from gemwright.training.loop import train
from gemwright.training.report import LOSSES
from tests.training import tiny_recipe


def test_a_step_is_as_it_was_logged_and_a_changed_log_is_found(tmp_path: Path) -> None:
    run, data = tiny_recipe.run(7), tiny_recipe.rows()
    train(run, data, tmp_path, save_every=3)
    for step, begun in ((6, 6), (5, 0)):  # of the states, those after 6 and 7 steps are left
        found = audit(run, data, tmp_path, step)
        assert (found.begun, found.logged, found.unlike) == (begun, True, [])
    log = tmp_path / LOSSES
    records = [json.loads(line) for line in log.read_text().splitlines()]
    records[4]["norm"] *= 1 + 1e-6
    log.write_text("".join(json.dumps(record) + "\n" for record in records))
    changed = audit(run, data, tmp_path, 5)
    assert changed.logged is False
    assert "NOT as logged" in str(changed)


def test_a_step_that_the_run_has_not_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="--replay 7: expected a step from 0 to 6"):
        audit(tiny_recipe.run(7), tiny_recipe.rows(), tmp_path, 7)

"""What a run costs is added up over its sessions, and goodput is what the steps needed of it."""

import json
from pathlib import Path

import pytest

from gemwright.training.costs import COSTS, Costs, goodput, read_costs, tell_energy
from gemwright.training.loop import train
from tests.training import tiny_recipe


def test_sessions_add_up_and_one_that_is_joined_again_goes_on(tmp_path: Path) -> None:
    assert read_costs(tmp_path) == {}
    before = {"began": 1.0, "seconds": 60.0, "kwh": 2.0}
    (tmp_path / COSTS).write_text(json.dumps([before, {"began": 5.0, "seconds": 10.0, "kwh": 1.0}]))
    with Costs(tmp_path, began=5.0):
        pass
    first, second = json.loads((tmp_path / COSTS).read_text())
    assert first == before
    assert second["began"] == 5.0
    assert second["seconds"] > 1e9  # since 1970, as it began then
    assert read_costs(tmp_path)["seconds"] == 60.0 + second["seconds"]


def test_energy_is_measured_and_carbon_only_where_a_country_is_given(tmp_path: Path) -> None:
    pytest.importorskip("codecarbon")
    for country, names in ((None, {"seconds", "kwh"}), ("DEU", {"seconds", "kwh", "kg"})):
        with Costs(tmp_path / str(country), country=country) as costs:
            costs.folder.mkdir()
            costs.note()
        assert set(read_costs(costs.folder)) == names


def test_goodput_is_what_the_steps_needed_of_the_wall() -> None:
    assert goodput([1.0, 1.0, 5.0, 2.0, 2.0], [8, 8, 8, 16, 16], 14.0) == pytest.approx(7 / 14)
    assert goodput([], [], 0.0) == 0.0


def test_energy_is_told_in_the_unit_that_fits() -> None:
    assert tell_energy({"kwh": 0.00123}) == "1.23 Wh"
    assert tell_energy({"kwh": 12.5, "kg": 0.05}) == "12.5 kWh, 50 g CO2"


def test_a_run_keeps_its_costs_and_a_board(tmp_path: Path) -> None:
    pytest.importorskip("tensorboardX")
    train(tiny_recipe.run(4), tiny_recipe.rows(), tmp_path)
    assert read_costs(tmp_path)["seconds"] > 0
    assert list((tmp_path / "tensorboard").iterdir())

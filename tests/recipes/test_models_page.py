from recipes.models_page import DRAWN, PAGE, written


def test_the_page_on_models_is_drawn_from_the_specs() -> None:
    page = PAGE.read_text(encoding="utf-8")
    assert written(page) == page, "run python -m recipes.models_page"
    assert all(f"<!-- {name} -->" in page for name in (*DRAWN, "presets"))

"""Generated personal data is found by kind, look-alikes are left, and what is redacted is gone."""

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.personal import MAKERS, SENTENCES, measure
from gemwright.data.personal.redact import Personal, find_personal, redacted
from gemwright.data.rules.batch import Batch


def test_personal_data_is_found_and_look_alikes_are_left() -> None:
    """The seed is fixed, so that luck has no part; docs/data.md has the numbers of a larger set."""
    recall, precision, _ = measure(30, seed=1)
    assert min(recall.values()) >= 0.9
    assert precision >= 0.95


@settings(deadline=None, max_examples=40)
@given(seed=st.integers(0, 10_000), before=st.text("abc \n.", max_size=300))
def test_what_is_redacted_is_gone_and_all_else_stays(seed: int, before: str) -> None:
    rng = random.Random(seed)
    value = MAKERS["e-mail"][0](rng)
    text = f"{before} {rng.choice(SENTENCES).format(value)} {before}"
    assert redacted(text, list(find_personal(text))) == text.replace(value, "<e-mail>")


def test_texts_go_or_are_redacted_by_how_much_harm_the_data_can_do() -> None:
    texts = ["Mail jane.doe@example.com.", "Card 4111 1111 1111 1111.", "Nothing here."]
    said = Personal()(Batch(texts))
    assert said.reasons == [None] * 3
    assert said.texts == ["Mail <e-mail>.", "Card <card number>.", "Nothing here."]
    assert said.counts == {"redacted e-mail": 1, "redacted card number": 1}
    assert Personal(sensitive="drop")(Batch(texts)).reasons == [None, "card number", None]
    assert Personal("keep", "keep")(Batch(texts)).texts == texts


def test_a_private_key_is_found_from_its_beginning_to_its_end() -> None:
    body = "\n".join(["MIIEvQIBADANBgkqhkiG9w0BAQEFAASCBKcwggSjAgEAAoIBAQC7VJTUt9Us8cKj"] * 25)
    text = f"before\n-----BEGIN RSA PRIVATE KEY-----\n{body}\n-----END RSA PRIVATE KEY-----\nafter"
    assert redacted(text, list(find_personal(text))) == "before\n<key>\nafter"


def test_finding_asks_the_network_for_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    import socket

    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("a name was looked up")

    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    assert [span.kind for span in find_personal("Mail a@b.co.uk")] == ["e-mail"]


@settings(deadline=None, max_examples=200)
@given(
    text=st.text("0123456789 -.:/@ABCDEFabcdefxyz\n\t()k_٣é", max_size=200),
    token=st.sampled_from(["hf_", "sk-", "eyJ"]),
)
def test_lines_without_a_digit_or_a_token_are_passed_over_and_no_trace_is_missed(text: str, token: str) -> None:
    from gemwright.data.personal import redact

    for one in (text, f"{text}{token}{text}"):
        spans = [trace.span() for trace in redact._traces(one)]  # pyright: ignore[reportPrivateUsage]
        assert spans == [trace.span() for trace in redact._TRACES.finditer(one)]  # pyright: ignore[reportPrivateUsage]

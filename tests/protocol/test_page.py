"""The page, the models and the AsyncAPI document say the same."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from clmer_server.hub import N_KEPT, SEND_QUEUE_CAPACITY
from clmer_server.protocol.asyncapi import RECEIVED, SENT, asyncapi, asyncapi_text, type_of
from clmer_server.protocol.codes import (
    GOODBYES,
    MEANINGS,
    NOTICES,
    PROTOCOL_VERSION,
    REFUSALS,
    SUBPROTOCOLS,
    ByeReason,
    ErrorCode,
    NoticeCode,
)
from clmer_server.protocol.inbound import INBOUND
from clmer_server.protocol.outbound import MESSAGE
from clmer_server.protocol.parts import DEFAULT_TOPICS, TOPICS
from clmer_server.web.requests import DRIFT, KEPT, STEP_S
from tests.support.paths import ROOT

DOCS = ROOT / "docs"
PAGE = (DOCS / "protocol.md").read_text(encoding="utf-8")
TO_SEND, TO_GET = PAGE.split("\n## What you may send\n")[1].split("\n## What you get\n")


def examples(part: str) -> list[dict[str, Any]]:
    """Return the JSON examples of a part of the page."""
    return [json.loads(text) for text in re.findall(r"```json\n(.*?)```", part, re.DOTALL)]


def table(heading: str) -> dict[str, str]:
    """Return the codes of a table in the part about what one gets, and what they mean."""
    part = re.split(r"\n##", TO_GET.split(f"\n### {heading}\n")[1])[0]
    return dict(re.findall(r"^\| `(\w+)` \| (.*) \|$", part, re.MULTILINE))


@pytest.mark.parametrize("example", examples(TO_GET), ids=lambda example: example["type"])
def test_an_example_of_what_one_gets_is_a_message_in_full(example: dict[str, Any]) -> None:
    """It reads as one, and no field is left out of it."""
    assert MESSAGE.validate_python(example, strict=False).model_dump(mode="json") == example


@pytest.mark.parametrize("example", examples(TO_SEND), ids=lambda example: example["type"])
def test_an_example_of_what_one_may_send_is_understood(example: dict[str, Any]) -> None:
    """Its fields are known and can have these values."""
    assert INBOUND.validate_python(example).type == example["type"]


def test_every_message_has_its_example() -> None:
    """Both ways."""
    assert {example["type"] for example in examples(TO_GET)} == set(map(type_of, SENT))
    assert {example["type"] for example in examples(TO_SEND)} == set(map(type_of, RECEIVED))


def test_every_field_that_may_be_sent_is_on_the_page() -> None:
    """By its name, in the part about sending."""
    fields = {name for model in RECEIVED for name in model.model_fields}
    assert [name for name in fields if not re.search(rf"\b{name}\b", TO_SEND)] == []


def test_every_error_code_is_on_the_page_with_its_meaning() -> None:
    """As the service itself has it, and no other."""
    assert table("error") == {code.value: meaning for code, meaning in MEANINGS.items()}
    assert set(MEANINGS) == set(ErrorCode)


def test_every_notice_and_every_goodbye_is_on_the_page_with_its_meaning() -> None:
    """As the service itself has them, and no others."""
    assert table("notice") == {code.value: meaning for code, meaning in NOTICES.items()}
    assert table("bye") == {reason.value: meaning for reason, meaning in GOODBYES.items()}
    assert (set(NOTICES), set(GOODBYES)) == (set(NoticeCode), set(ByeReason))


def test_every_fatal_error_is_the_reason_of_a_goodbye() -> None:
    """A client that reads the last message alone knows as much."""
    assert {code for code, meaning in MEANINGS.items() if "Fatal" in meaning} <= set(ByeReason)


def test_every_code_stands_in_some_test() -> None:
    """Of errors, refusals, notices and goodbyes: no code is written down alone. This module does not count."""
    tests = [path.read_text(encoding="utf-8") for path in (ROOT / "tests").rglob("test_*.py")]
    seen = "".join(text for text in tests if text != Path(__file__).read_text(encoding="utf-8"))
    codes = [*ErrorCode, *REFUSALS, *NoticeCode, *ByeReason]
    assert [str(code) for code in codes if f'"{code}"' not in seen] == []


def test_every_refusal_before_a_connection_is_on_the_page() -> None:
    """With its status, as the service itself has it, and no other."""
    rows = re.findall(r"^\| `(\w+)` \| (.*) \|$", PAGE.split("## Coming in")[1].split("\n## ")[0], re.MULTILINE)
    assert dict(rows) == REFUSALS


def test_topics_names_and_numbers_of_the_page_are_those_of_the_service() -> None:
    """What a client is built upon."""
    assert re.findall(r"^\| `([\w.]+)` \| [`b]", PAGE.split("## Topics")[1].split("## ")[0], re.MULTILINE) == list(
        TOPICS
    )
    unasked = PAGE.split("Without a word you get ")[1].split(".")[0]
    assert re.findall(r"`(\w+)`", unasked) == list(DEFAULT_TOPICS)
    assert all(f"`{name}`" in PAGE for name in SUBPROTOCOLS)
    assert f"At most {SEND_QUEUE_CAPACITY} messages" in PAGE
    assert f"Of the last {KEPT} exchanges" in PAGE
    assert f"the last {N_KEPT} of the session" in PAGE
    assert N_KEPT < SEND_QUEUE_CAPACITY // 2
    assert f"delay / 2 + {DRIFT} x age + {STEP_S} s" in PAGE


def test_the_kept_document_is_what_the_service_makes() -> None:
    """To renew it: ``clmer-serve``, then save ``/asyncapi.json``, or write ``asyncapi_text(PROTOCOL_VERSION)``."""
    assert (DOCS / "asyncapi.json").read_text(encoding="utf-8") == asyncapi_text(PROTOCOL_VERSION)


def references(value: Any) -> Iterator[str]:
    """Yield every reference within plain values."""
    if isinstance(value, dict):
        if isinstance(value.get("$ref"), str):
            yield value["$ref"]
        value = list(value.values())
    if isinstance(value, list):
        for inner in value:
            yield from references(inner)


def test_every_reference_of_the_document_leads_somewhere() -> None:
    """Within itself."""
    document = asyncapi(PROTOCOL_VERSION)
    found = set(references(document))
    assert len(found) > len(SENT) + len(RECEIVED)
    for reference in found:
        place: Any = document
        for step in reference.removeprefix("#/").split("/"):
            place = place[step]


def test_the_document_lets_the_service_add_fields_and_clients_none() -> None:
    """As the rules of compatibility say."""
    schemas = asyncapi(PROTOCOL_VERSION)["components"]["schemas"]
    assert all(schemas[model.__name__]["additionalProperties"] is False for model in RECEIVED)
    assert not any("additionalProperties" in schemas[model.__name__] for model in SENT)

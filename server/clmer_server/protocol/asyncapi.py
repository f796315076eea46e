"""The protocol as an AsyncAPI 3 document, made from the models themselves."""

from __future__ import annotations

import json
from typing import Any, Literal, get_args

from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from clmer_server.protocol import outbound
from clmer_server.protocol.codes import GOODBYES, MEANINGS, NOTICES, SUBPROTOCOLS
from clmer_server.protocol.inbound import Inbound
from clmer_server.protocol.outbound import Message

SENT: tuple[type[BaseModel], ...] = get_args(Message)
"""What the service sends."""

RECEIVED: tuple[type[BaseModel], ...] = get_args(Inbound)
"""What clients send."""

_PREVIEW = "Preview"  # the one message that is no model


_QUERY: dict[str, Any] = {
    "type": "object",
    "properties": {
        "session": {"type": "string", "description": "Which one to join; without it, the default one."},
        "after_seq": {"type": "integer", "minimum": 0, "description": "The last prediction that the client has."},
    },
}
"""What may stand behind the address."""


def type_of(model: type[BaseModel]) -> str:
    """Return the ``type`` by which messages of a model are known."""
    return str(get_args(model.model_fields["type"].annotation)[0])


def asyncapi(version: str) -> dict[str, Any]:
    """Return the document as plain JSON values.

    Args:
        version: Of the protocol.
    """
    messages = {model.__name__: _message(model) for model in (*SENT, *RECEIVED)}
    messages[_PREVIEW] = _preview_message()
    return {
        "asyncapi": "3.0.0",
        "info": {"title": "CLMER", "version": version, "description": outbound.__doc__},
        "defaultContentType": "application/json",
        "channels": {
            "ws": {
                "address": "/ws",
                "description": f"WebSocket with the subprotocol {' or '.join(SUBPROTOCOLS)}; without one, the first.",
                "messages": {name: {"$ref": f"#/components/messages/{name}"} for name in messages},
                "bindings": {"ws": {"query": _QUERY, "bindingVersion": "0.1.0"}},
            }
        },
        "operations": {
            "send": _operation("send", [*(model.__name__ for model in SENT), _PREVIEW]),
            "receive": _operation("receive", [model.__name__ for model in RECEIVED]),
        },
        "components": {
            "messages": messages,
            "schemas": {**_schemas(SENT, "serialization"), **_schemas(RECEIVED, "validation")},
        },
        "x-error-codes": {code.value: meaning for code, meaning in MEANINGS.items()},
        "x-notice-codes": {code.value: meaning for code, meaning in NOTICES.items()},
        "x-bye-reasons": {reason.value: meaning for reason, meaning in GOODBYES.items()},
    }


def asyncapi_text(version: str) -> str:
    """Return the document as text, one value a line."""
    return json.dumps(asyncapi(version), indent=1, ensure_ascii=False) + "\n"


def _schemas(models: tuple[type[BaseModel], ...], mode: Literal["serialization", "validation"]) -> dict[str, Any]:
    """Return the schemas of models and their parts; those of the service may get further fields later."""
    _, schemas = models_json_schema([(model, mode) for model in models], ref_template="#/components/schemas/{model}")
    defined: dict[str, Any] = schemas["$defs"]
    if mode == "serialization":
        for schema in defined.values():
            if "properties" in schema:
                schema.pop("additionalProperties", None)
    return defined


def _message(model: type[BaseModel]) -> dict[str, Any]:
    return {
        "name": type_of(model),
        "summary": model.__doc__,
        "payload": {"$ref": f"#/components/schemas/{model.__name__}"},
    }


def _preview_message() -> dict[str, Any]:
    return {
        "name": "preview",
        "summary": "A binary block of eeg.preview or face.preview.",
        "description": outbound.PREVIEW_LAYOUT,
        "contentType": "application/octet-stream",
    }


def _operation(action: Literal["send", "receive"], names: list[str]) -> dict[str, Any]:
    messages = [{"$ref": f"#/channels/ws/messages/{name}"} for name in names]
    return {"action": action, "channel": {"$ref": "#/channels/ws"}, "messages": messages}

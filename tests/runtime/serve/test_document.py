"""The OpenAPI document is true: what it says may be sent is answered as it says, and nothing makes the server fail."""

from itertools import chain
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis import GenerationMode
from schemathesis.specs.openapi import checks

from tests.runtime.serve.conftest import Served

EXAMPLES = 12
"""A route and way of being wrong; a longer run is `schemathesis run URL/openapi.json`."""
CHECKS = [
    schemathesis.checks.not_a_server_error,
    checks.status_code_conformance,
    checks.content_type_conformance,
    checks.response_schema_conformance,
]
ROUTES = [
    ("GET", "/v1/models"),
    ("GET", "/v1/models/{id}"),
    ("POST", "/v1/completions"),
    ("POST", "/v1/chat/completions"),
    ("POST", "/v1/tokenize"),
    ("GET", "/v1/lenses"),
    ("POST", "/v1/lenses/score"),
    ("POST", "/v1/sessions"),
    ("DELETE", "/v1/sessions/{id}"),
    ("GET", "/health"),
    ("GET", "/ready"),
    ("GET", "/metrics"),
]


@pytest.fixture(scope="module")
def document(served: Served) -> Any:
    return served.http.get("/openapi.json").json()


def test_every_route_is_documented(document: Any) -> None:
    told = sorted((method.upper(), path) for path, methods in document["paths"].items() for method in methods)
    assert told == sorted(ROUTES)
    operations = list(chain.from_iterable(methods.values() for methods in document["paths"].values()))
    assert not any("422" in operation["responses"] for operation in operations)
    assert "lenses" in document["components"]["schemas"]["CompletionBody"]["properties"]


@pytest.fixture(scope="module")
def api(served: Served, document: Any) -> Any:
    found = schemathesis.openapi.from_dict(document)
    found.config.update(base_url=served.url)
    return found


@pytest.mark.parametrize("mode", [GenerationMode.POSITIVE, GenerationMode.NEGATIVE])
@pytest.mark.parametrize(("method", "path"), ROUTES)
@pytest.mark.filterwarnings("ignore")
def test_whatever_is_sent_is_answered_as_documented(
    served: Served, api: Any, method: str, path: str, mode: GenerationMode
) -> None:
    if mode is GenerationMode.NEGATIVE and (method != "POST" or path == "/v1/sessions"):
        return  # nothing can be sent that is wrong

    @settings(
        max_examples=EXAMPLES,
        deadline=None,
        database=None,
        derandomize=True,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(case=api[path][method].as_strategy(generation_mode=mode))
    def send(case: Any) -> None:
        case.call_and_validate(base_url=served.url, checks=CHECKS, timeout=10)

    send()
    assert served.http.get("/health").status_code == 200

"""Every operator's signature is that of ONNX's schema, in each version that it stands for."""

from __future__ import annotations

import inspect
from collections.abc import Iterator

import onnx
import pytest

from metal4conv.frontends.onnx import operators
from metal4conv.frontends.onnx.table import ONNX_OPS

operators.load()
KIND = inspect.Parameter
DOMAINS = ("ai.onnx.ml", "ai.onnx.preview")
NEWEST = onnx.defs.onnx_opset_version()


def domain_of(name: str) -> tuple[str, str]:
    domain, _, operator = name.rpartition(".")
    return domain, operator


def lowered_versions() -> Iterator[tuple[str, int, int]]:
    """Operator, the `since` of a lowering, and a schema version that it stands for."""
    for name in ONNX_OPS:
        domain, operator = domain_of(name)
        if domain not in ("", *DOMAINS):
            continue
        schemas = {
            item.since_version
            for item in onnx.defs.get_all_schemas_with_history()
            if item.name == operator and item.domain == domain and not item.deprecated
        }
        known = sorted(ONNX_OPS.handlers[name])
        for version in sorted(schemas):
            fitting = [since for since in known if since <= version]
            if fitting and version >= (7 if not domain else 1):
                yield name, max(fitting), version


@pytest.mark.parametrize(("name", "since", "version"), list(lowered_versions()))
def test_signature_is_the_schema(name: str, since: int, version: int) -> None:
    domain, operator = domain_of(name)
    schema = onnx.defs.get_schema(operator, version, domain)
    handler = ONNX_OPS.handlers[name][since]
    parameters = list(inspect.signature(handler).parameters.values())[1:]
    positional = [item for item in parameters if item.kind is KIND.POSITIONAL_OR_KEYWORD]
    variadic = [item for item in parameters if item.kind is KIND.VAR_POSITIONAL]
    attributes = {item.name for item in parameters if item.kind is KIND.KEYWORD_ONLY}
    assert set(schema.attributes) <= attributes, "an attribute of the schema is missing"
    if not variadic:
        assert len(positional) >= len(schema.inputs), "an input of the schema is missing"
    given = {item.name: item.default for item in parameters}
    for key, attribute in schema.attributes.items():
        if attribute.default_value.type:
            wanted = onnx.helper.get_attribute_value(attribute.default_value)
            wanted = wanted.decode() if isinstance(wanted, bytes) else wanted
            if isinstance(wanted, list):
                wanted = tuple(
                    item.decode() if isinstance(item, bytes) else item for item in wanted
                )
            assert (
                given[key] == pytest.approx(wanted)
                if isinstance(wanted, float)
                else (given[key] == wanted)
            ), f"{key} is {wanted} by default"
    required = [item for item in positional if item.default is KIND.empty]
    assert len(required) <= schema.min_input or variadic, "an optional input is required"


def test_attributes_exist_in_some_version() -> None:
    """A keyword that no schema has would be a misspelt attribute."""
    for name in ONNX_OPS:
        domain, operator = domain_of(name)
        if domain not in ("", *DOMAINS) or not onnx.defs.has(operator, domain):
            continue
        known = {
            attribute
            for item in onnx.defs.get_all_schemas_with_history()
            if item.name == operator and item.domain == domain
            for attribute in item.attributes
        }
        for handler in ONNX_OPS.handlers[name].values():
            given = inspect.signature(handler).parameters.values()
            keywords = {item.name for item in given if item.kind is KIND.KEYWORD_ONLY}
            assert keywords <= known, f"{name}: {sorted(keywords - known)}"


@pytest.mark.parametrize("name", [name for name in ONNX_OPS if domain_of(name)[0] == ""])
def test_operator_exists(name: str) -> None:
    known = {item.name for item in onnx.defs.get_all_schemas_with_history() if not item.domain}
    assert name in known | {"SimplifiedLayerNormalization"}, "onnx has no such operator"

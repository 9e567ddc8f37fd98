"""What params.yaml may hold: one JSON Schema made from the models of all sections, with each field's docstring in it.

`trainyard explain` prints it; laying one scale over another asks it which mappings are items that may come and go.
"""

import ast
import inspect
import textwrap
from collections.abc import Iterator, Mapping
from itertools import pairwise
from typing import Any

from pydantic import BaseModel, TypeAdapter

from stages.base.errors import ParamError
from stages.base.params import PARAMS_FILE, nearest, sections_of

Schema = dict[str, Any]
ITEMS = "*"  # in a section's name: any key of a mapping of items


def params_schema(sections: Mapping[str, Any]) -> Schema:
    """The schema of the whole file, references resolved."""
    top: Schema = {"type": "object", "properties": {}}
    for name, model in sorted(sections.items(), key=lambda one: one[0].count(".")):
        here = top
        for part in name.split("."):
            if part == ITEMS:
                here = here.setdefault("additionalProperties", {"type": "object"})
            else:
                here = here.setdefault("properties", {}).setdefault(part, {"type": "object"})
        here.update(_schema_of(model))
    return top


def _schema_of(model: Any) -> Schema:
    schema = TypeAdapter(model).json_schema()
    models = {one.__name__: one for section in sections_of(model) for one in _nested(section)}
    definitions = schema.pop("$defs", {})
    for definition in [*definitions.values(), schema]:
        if docs := field_docs(models.get(definition.get("title", ""))):
            for name, field in definition.get("properties", {}).items():
                if name in docs:
                    field["description"] = docs[name]
    return _resolved(schema, definitions)


def _nested(model: type[BaseModel]) -> Iterator[type[BaseModel]]:
    yield model
    for field in model.model_fields.values():
        for inner in sections_of(field.annotation):
            yield from _nested(inner)


def field_docs(model: type[BaseModel] | None) -> dict[str, str]:
    """Field → the string that stands below it, of the class and of those it inherits from."""
    docs: dict[str, str] = {}
    for one in reversed(model.__mro__[: model.__mro__.index(BaseModel)] if model else ()):
        tree = ast.parse(textwrap.dedent(inspect.getsource(one)))
        body = tree.body[0].body  # type: ignore[attr-defined]
        for field, text in pairwise(body):
            if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name):
                match text:
                    case ast.Expr(value=ast.Constant(value=str(doc))):
                        docs[field.target.id] = " ".join(doc.split())
    return docs


def _resolved(node: Any, definitions: Mapping[str, Schema]) -> Any:
    if isinstance(node, list):
        return [_resolved(one, definitions) for one in node]
    if not isinstance(node, dict):
        return node
    if "$ref" in node:
        return _resolved(
            definitions[node["$ref"].rsplit("/", 1)[-1]] | {k: v for k, v in node.items() if k != "$ref"}, definitions
        )
    return {key: _resolved(value, definitions) for key, value in node.items() if key != "discriminator"}


def members(schema: Schema, value: Any = None) -> list[Schema]:
    """What a union may be, of those that `kind` tells apart what the value names; any other schema is its only one."""
    union = schema.get("oneOf") or schema.get("anyOf")
    if union is None:
        return [schema]
    found = [inner for one in union for inner in members(one, value)]
    if isinstance(value, dict) and "kind" in value:
        named = [one for one in found if one.get("properties", {}).get("kind", {}).get("const") == value["kind"]]
        return named or found
    return found


def items_of(schema: Schema) -> Schema | None:
    """What a mapping whose keys are the user's holds; None for anything else."""
    items = schema.get("additionalProperties") or next(iter(schema.get("patternProperties", {}).values()), None)
    return items if isinstance(items, dict) else None


def child(schema: Schema, key: str, value: Any, path: str) -> Schema:
    """The schema of `key` in the mapping `value` at `path`. Raises ParamError with the nearest known name."""
    known: list[str] = []
    for one in members(schema, value):
        if key in one.get("properties", {}):
            return one["properties"][key]
        if items := items_of(one):
            return items
        known += one.get("properties", {})
    where = f"{path}.{key}" if path else key
    raise ParamError(f"{PARAMS_FILE}: unknown parameter `{where}`{nearest(key, list(dict.fromkeys(known)))}")


def find(schema: Schema, path: str, values: Any) -> tuple[Schema, Any]:
    """Schema and value at a dotted path; the value is None where the file has none."""
    here = ""
    for key in path.split(".") if path else ():
        schema = child(schema, key, values, here)
        values = values.get(key) if isinstance(values, dict) else None
        here = f"{here}.{key}" if here else key
    return schema, values


def describe(schema: Schema) -> str:
    """A type in words: `number, above 0, at most 1`."""
    if "const" in schema or "enum" in schema:
        return " or ".join(map(str, schema.get("enum", [schema.get("const")])))
    if (union := members(schema))[0] is not schema:
        return " or ".join(dict.fromkeys(describe(one) for one in union))
    kind = schema.get("type")
    if kind == "array":
        inner = schema.get("items")
        words = f"list of ({describe(inner)})" if inner else "list"
    elif kind == "object":
        items = items_of(schema)
        words = f"mapping of names to ({describe(items)})" if items else "section"
    else:
        words = {"number": "number", "integer": "whole number", "string": "text", "boolean": "true or false"}.get(
            str(kind), str(kind)
        )
    bounds = [f"{word} {schema[key]:g}" for key, word in _BOUNDS.items() if key in schema]
    return ", ".join([words, *bounds, *([f"of the form {schema['pattern']}"] if "pattern" in schema else [])])


_BOUNDS = {
    "exclusiveMinimum": "above",
    "minimum": "at least",
    "exclusiveMaximum": "below",
    "maximum": "at most",
    "minLength": "length at least",
    "maxLength": "length at most",
    "minItems": "entries at least",
    "maxItems": "entries at most",
    "minProperties": "entries at least",
    "maxProperties": "entries at most",
    "multipleOf": "a multiple of",
}

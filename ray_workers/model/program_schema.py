"""The JSON of a `torch.export` program, rebuilt from what is known of it.

torch's own dataclasses say which fields there are and of what type. Every text among them has a
rule in `_TEXTS`; a text without one is refused. So names are identifiers (torch writes them into
Python source and executes it), called functions are operators (`operators.py`), sizes are of a
small grammar (`symbolic.py`), and the types of arguments are tuples, lists and dictionaries. What a
program can do without is left out: guards, which are Python source, and notes on the origin of
nodes.
"""

from __future__ import annotations

import dataclasses
import functools
import inspect
import json
import re
import types
import typing
from collections.abc import Callable
from enum import IntEnum
from typing import Annotated, Any

from ..torch_private import program_schema
from .operators import is_allowed
from .symbolic import SYMBOL, NotAllowed, checked_expression

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,1000}")
_PATH = re.compile(r"[A-Za-z0-9_@-]{0,1000}(\.[A-Za-z0-9_@-]{1,1000}){0,100}")
#: Where a node comes from: `key,path,type` of each module, which becomes names of layers.
_SCOPE = re.compile(rf"[\w.:@\[\]()'<> -]*,{_PATH.pattern},[\w.,:@\[\]()'<> -]*", re.ASCII)
_KEY = re.compile(r"[\w./ -]{0,200}", re.ASCII)
_FUNCTION = re.compile(r"[\w.;:<>@-]*", re.ASCII)
_LARGEST = 2**63
_DEEPEST = 60
_LONGEST_TEXT = 100_000
_CONTAINERS = frozenset({
    "builtins.tuple", "builtins.list", "builtins.dict", "collections.OrderedDict",
    "torch.fx.immutable_collections.immutable_list",
    "torch.fx.immutable_collections.immutable_dict",
})  # fmt: skip


def rebuilt_program(content: bytes) -> bytes:
    """`models/model.json` as it is given to torch.

    Raises:
        NotAllowed: It has something that `torch.export.save` does not write.
    """
    said = read_json(content)
    version = said.get("schema_version") if isinstance(said, dict) else None
    major = version.get("major") if isinstance(version, dict) else None
    ours = program_schema().SCHEMA_VERSION[0]
    if type(major) is int and major != ours:
        raise NotAllowed(
            f"another version of torch saved it (schema {major}; the installed one reads {ours})"
        )
    return json.dumps(_rebuilt(program_schema().ExportedProgram, said, 0)).encode()


def rebuilt_payloads(content: bytes, prefix: str) -> dict[str, Any]:
    """The list of weights or constants as it is given to torch: plain tensors only.

    Args:
        content: The JSON.
        prefix: Of the names of their files.

    Raises:
        NotAllowed: One is pickled or an object, or its file has another name.
    """
    said = read_json(content)
    entries = said.get("config") if isinstance(said, dict) else None
    if not isinstance(entries, dict):
        raise NotAllowed("a list of tensors that is none")
    for name, entry in entries.items():
        if isinstance(entry, dict) and entry.get("use_pickle") is not False:
            raise NotAllowed(f"it asks for pickled tensors ('{_short(name)}')")
    found = _rebuilt(program_schema().PayloadConfig, {"config": entries}, 0)
    for name, entry in found["config"].items():
        if not re.fullmatch(rf"{prefix}\d{{1,7}}", entry["path_name"], re.ASCII):
            raise NotAllowed(f"the file '{_short(entry['path_name'])}' of '{_short(name)}'")
        if entry["tensor_meta"] is None:
            raise NotAllowed(f"'{_short(name)}', which is no tensor")
    checked: dict[str, Any] = found
    return checked


def read_json(content: bytes) -> Any:
    """JSON of plain values.

    Raises:
        NotAllowed: It is not JSON, or nested too deeply.
    """

    def refused(_constant: str) -> Any:
        raise NotAllowed("a number that JSON does not have")

    try:
        return json.loads(content.decode("utf-8"), parse_constant=refused)
    except NotAllowed:
        raise
    except RecursionError:
        raise NotAllowed("JSON that is nested too deeply") from None
    except ValueError:
        raise NotAllowed("a text that is not valid JSON") from None


def _rebuilt(kind: Any, data: Any, depth: int, rule: Rule | None = None) -> Any:
    if depth > _DEEPEST:
        raise NotAllowed("graphs that are nested too deeply")
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin is Annotated:
        return _rebuilt(arguments[0], data, depth, rule)
    if origin in (typing.Union, types.UnionType):
        inner = next(a for a in arguments if a is not type(None))
        return None if data is None else _rebuilt(inner, data, depth, rule)
    if origin is list:
        return [_rebuilt(arguments[0], item, depth + 1, rule) for item in _of(list, data)]
    if origin is dict:
        return {
            _text(key, rule): _rebuilt(arguments[1], value, depth + 1, rule)
            for key, value in _of(dict, data).items()
        }
    if dataclasses.is_dataclass(kind):
        return _rebuilt_fields(kind, _of(dict, data), depth)
    return _value(kind, data, rule)


def _rebuilt_fields(kind: Any, data: dict[str, Any], depth: int) -> dict[str, Any]:
    name = kind.__name__
    if name in _OBJECTS:
        raise NotAllowed("an object of a class of its own")
    if name in _LEFT_OUT:
        data = {key: _LEFT_OUT[name].get(key, value) for key, value in data.items()}
    hints = _hints(kind)
    unknown = set(data) - set(hints)
    if unknown:
        raise NotAllowed(f"'{_short(min(unknown))}' in a {name}")
    if _is_union(kind) and len(data) != 1:
        raise NotAllowed(f"a {name} of {len(data)} kinds")
    if name == "Node":
        data = {**data, "metadata": _kept_metadata(data.get("metadata"))}
    return {
        key: _rebuilt(hints[key], value, depth + 1, _TEXTS.get((name, key)))
        for key, value in data.items()
    }


@functools.cache
def _hints(kind: Any) -> dict[str, Any]:
    return typing.get_type_hints(kind, globalns=vars(program_schema()), include_extras=True)


def _is_union(kind: Any) -> bool:
    return any(base.__name__ == "_Union" for base in kind.__mro__)


def _kept_metadata(data: Any) -> dict[str, str]:
    given = _of(dict, data)
    return {key: _text(given[key], rule) for key, rule in _METADATA.items() if key in given}


def _value(kind: Any, data: Any, rule: Rule | None) -> Any:
    if kind is str:
        return _text(data, rule)
    if kind is bool and isinstance(data, bool):
        return data
    if kind is int and type(data) is int and abs(data) <= _LARGEST:
        return data
    if kind is float and (type(data) in (int, float) or data in ("Infinity", "-Infinity", "NaN")):
        return data
    if (
        inspect.isclass(kind)
        and issubclass(kind, IntEnum)
        and type(data) is int
        and data in [*kind]
    ):
        return data
    raise NotAllowed(f"'{_short(data)}' where a {getattr(kind, '__name__', kind)} belongs")


def _of(kind: type, data: Any) -> Any:
    if not isinstance(data, kind):
        raise NotAllowed(f"'{_short(data)}' where a {kind.__name__} belongs")
    return data


#: Checks a text; returns it as it is given to torch.
Rule = Callable[[str], str]


def _text(data: Any, rule: Rule | None) -> str:
    if not isinstance(data, str) or rule is None:
        raise NotAllowed(f"the text '{_short(data)}' where none belongs")
    return rule(data)


def _matching(pattern: re.Pattern[str], what: str) -> Rule:
    def rule(text: str) -> str:
        if len(text) > _LONGEST_TEXT or not pattern.fullmatch(text):
            raise NotAllowed(f"'{_short(text)}', which is no {what}")
        return text

    return rule


def _one_of(*known: str) -> Rule:
    return _matching(re.compile("|".join(map(re.escape, known))), " and no ".join(known))


def _operator(text: str) -> str:
    if is_allowed(text):
        return text
    if text.startswith("torch.ops."):
        raise NotAllowed(
            f"it uses the operator {_short(text.removeprefix('torch.ops.'))}, which is not "
            "registered here as one that only computes tensors"
        )
    raise NotAllowed(f"it calls '{_short(text)}', which is no operator on tensors")


def _literal(text: str) -> str:
    if len(text) > _LONGEST_TEXT:
        raise NotAllowed(f"a text of {len(text):,} characters")
    return text


def _containers(text: str) -> str:
    """The structure of arguments: torch would import what it names as an enum or a factory."""
    match read_json(text.encode()):
        case [1, dict() as tree]:
            return json.dumps([1, _container(tree, 0)])
    raise NotAllowed("a structure of arguments of another version")


def _container(tree: Any, depth: int) -> dict[str, Any]:
    if depth > _DEEPEST:
        raise NotAllowed("arguments that are nested too deeply")
    match tree:
        case {"type": None, "context": None, "children_spec": [], **rest} if not rest:
            return {"type": None, "context": None, "children_spec": []}
        case {"type": str(kind), "context": context, "children_spec": [*inner], **rest} if not rest:
            if kind not in _CONTAINERS:
                raise NotAllowed(f"an argument or output of the type '{_short(kind)}'")
            keys = read_json(context.encode()) if isinstance(context, str) else ()
            plain = isinstance(keys, list) and all(map(_is_key, keys))
            if keys is not None and not plain:
                raise NotAllowed(f"the keys '{_short(context)}' of arguments")
            children = [_container(child, depth + 1) for child in inner]
            return {"type": kind, "context": json.dumps(keys), "children_spec": children}
    raise NotAllowed("a structure of arguments that is none")


def _is_key(key: Any) -> bool:
    """Keys of arguments may become names in generated source: they hold no call and no quote."""
    return type(key) is int or (isinstance(key, str) and _KEY.fullmatch(key) is not None)


def _short(value: Any) -> str:
    text = value if isinstance(value, str) else type(value).__name__
    shown = "".join(c if c.isprintable() else "?" for c in text[:100])
    return shown if len(shown) <= 80 else shown[:77] + "..."


_name = _matching(_NAME, "name")
_optional_name = _matching(re.compile(f"({_NAME.pattern})?"), "name")
_path = _matching(_PATH, "name of a parameter or module")


def _scopes(text: str) -> str:
    return ";".join(map(_matching(_SCOPE, "layer"), text.split(";")))


#: What is kept of a node's notes.
_METADATA: dict[str, Rule] = {
    "nn_module_stack": _scopes,
    "torch_fn": _matching(_FUNCTION, "function"),
}

#: What the texts of each dataclass must be; for dictionaries, both keys and values.
_TEXTS: dict[tuple[str, str], Rule] = {
    ("Argument", "as_operator"): _operator,
    ("Argument", "as_string"): _literal,
    ("Argument", "as_string_to_argument"): _name,
    ("Argument", "as_strings"): _literal,
    ("BufferMutationSpec", "buffer_name"): _path,
    ("ConstantValue", "as_string"): _literal,
    ("Device", "type"): _one_of("cpu", "cuda"),
    ("ExportedProgram", "opset_version"): _name,
    ("ExportedProgram", "range_constraints"): _matching(SYMBOL, "symbol"),
    ("ExportedProgram", "torch_version"): _matching(re.compile(r"[\w.+<>=-]{0,100}"), "version"),
    ("ExportedProgram", "verifiers"): _one_of("TRAINING", "ATEN"),
    ("GradientToParameterSpec", "parameter_name"): _path,
    ("GradientToUserInputSpec", "user_input_name"): _name,
    ("Graph", "custom_obj_values"): _name,
    ("Graph", "sym_bool_values"): _name,
    ("Graph", "sym_float_values"): _name,
    ("Graph", "sym_int_values"): _name,
    ("Graph", "tensor_values"): _name,
    ("GraphArgument", "name"): _name,
    ("InputToBufferSpec", "buffer_name"): _path,
    ("InputToConstantInputSpec", "name"): _name,
    ("InputToParameterSpec", "parameter_name"): _path,
    ("InputToTensorConstantSpec", "tensor_constant_name"): _path,
    ("ModuleCallEntry", "fqn"): _path,
    ("ModuleCallSignature", "forward_arg_names"): _name,
    ("ModuleCallSignature", "in_spec"): _containers,
    ("ModuleCallSignature", "out_spec"): _containers,
    ("NamedArgument", "name"): _optional_name,
    ("Node", "metadata"): _literal,
    ("Node", "name"): _name,
    ("Node", "target"): _operator,
    ("ParameterMutationSpec", "parameter_name"): _path,
    ("PayloadConfig", "config"): _path,
    ("PayloadMeta", "path_name"): _name,
    ("SymBoolArgument", "as_name"): _name,
    ("SymExpr", "expr_str"): checked_expression,
    ("SymFloatArgument", "as_name"): _name,
    ("SymIntArgument", "as_name"): _name,
    ("TensorArgument", "name"): _name,
    ("TokenArgument", "name"): _name,
    ("UserInputMutationSpec", "user_input_name"): _name,
}
#: Objects of C++ or Python, which would be unpickled.
_OBJECTS = frozenset({"CustomObjArgument", "InputToCustomObjSpec"})
#: Fields whose content is not given to torch.
_LEFT_OUT: dict[str, dict[str, Any]] = {
    "ExportedProgram": {"guards_code": []},
    "GraphModule": {"metadata": {}, "treespec_namedtuple_fields": {}},
}

"""Errors of torch's exporter, in one sentence: what the model does, in which line, what to do.

Everything that `torch.export` and `torch.onnx` raise is translated here, and nowhere else.
"""

from __future__ import annotations

import re
import traceback
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...recipe.errors import StepFailed
from ...recipe.factories import users_file, users_line
from ...recipe.library_messages import clean
from .complex_numbers import NoRealForm

_OWN = Path(__file__).parents[2]
_ELSEWHERE = "a target that compiles the module itself (inductor-cpu)"


@dataclass(frozen=True)
class _Cause:
    """What a message of torch means.

    Attributes:
        pattern: Found in the message.
        what: What the model does; `{0}` is the pattern's first group.
        do: What to do about it.
    """

    pattern: re.Pattern[str]
    what: str
    do: str


def _cause(pattern: str, what: str, do: str) -> _Cause:
    return _Cause(re.compile(pattern), what, do)


_COMPLEX_ADVICE = "compute with real and imaginary parts apart (torch.view_as_real)"
#: The first that is found counts: from what is special to what is general.
_CAUSES = (
    _cause(
        r"_pack_padded_sequence|PackedSequence|zeros\(\): argument 'size' failed to unpack",
        "it packs sequences of different lengths, which no exported model can",
        "give the recurrent layer the padded batch, and use a mask after it",
    ),
    _cause(
        r"assigned during export|attribute[s]? (?:self\.)?([\w.]+) (?:was|were) assigned|"
        r"mutat\w+ .*?(?:attribute|buffer) (\S+)",
        "its forward assigns a tensor to an attribute, which an exported model can't keep",
        "register the tensor as a buffer and change it in place, or return it",
    ),
    _cause(
        r"Could not guard on data-dependent expression|data-dependent branching|"
        r"Data-dependent|torch\._check|UserErrorType\.DYNAMIC_CONTROL_FLOW",
        "its code branches on the values of a tensor",
        "compute both sides and choose with torch.where, or use torch.cond",
    ),
    _cause(
        r"_local_scalar_dense|DataDependentOutputException|\.item\(\)",
        "it turns the value of a tensor into a Python number",
        "leave it a tensor: no item(), int(), float() or bool() of one",
    ),
    _cause(
        r"DynamicOutputShapeException|aten\.(nonzero|unique\w*|masked_select)",
        "the shape of a tensor depends on values (operator {0})",
        "use a mask of the whole shape instead of selecting elements",
    ),
    _cause(
        r"[Cc]omplex(?:Float|Double|64|128)|complex(?:64|128)|view_as_complex|torch\.complex",
        "it computes with complex numbers, which the exported graph doesn't have",
        _COMPLEX_ADVICE,
    ),
    _cause(
        r"No ONNX function found for <OpOverload\(op='([\w:.]+)'|"
        r"No decompositions registered for .*?'([\w:.]+)'|"
        r"Unsupported FX nodes.*?aten[.:]+([\w.]+)|"
        r"[Oo]perator '?(\S+?)'? (?:is|to ONNX is) not supported",
        "the operator {0} has no ONNX form",
        f"replace it by other operators, or use {_ELSEWHERE}",
    ),
    _cause(
        r"\.numpy\(\) is not supported|can't convert .*FakeTensor.* numpy|"
        r"FakeTensor.*__array__|__array__.*FakeTensor",
        "it converts a tensor to numpy",
        "use torch's functions instead of numpy's",
    ),
    _cause(
        r"Please convert all Tensors to FakeTensors|Attempting to use FunctionalTensor",
        "it uses a tensor that is neither an input nor a parameter or buffer of the model",
        "register it with register_buffer",
    ),
    _cause(
        r"ScriptModule|ScriptFunction|torch\.jit",
        "it is scripted with torch.jit, which torch.export does not trace",
        "give the model without torch.jit.script",
    ),
    _cause(
        r"takes? (\d+) positional arguments? but|missing \d+ required positional|"
        r"got an unexpected keyword argument",
        "its forward takes other arguments while it is exported than when it is called",
        "write the arguments of forward out, without *args and **kwargs that decorators change",
    ),
)
_ADVICE = (
    "torch.export must be able to trace the model: no control flow on tensor values, no operator "
    "without an ONNX form"
)


def as_export_error(error: BaseException, program: Any = None) -> StepFailed:
    """An error with what the model does that can't be exported, and its line.

    Args:
        error: Of torch.
        program: The traced program, whose nodes know the lines that they come from.
    """
    chain = list(_chain(error))
    text = "\n".join(str(link) for link in chain)
    what, do = _told(text) or (_reason(chain), _ADVICE)
    operator = re.search(r"(?:OpOverload\(op='|function for[^']*'|torch\.ops\.)([\w:.]+)", text)
    if operator and operator[1] not in what and do == _ADVICE:
        what += f" (operator {operator[1]})"
    scope = re.findall(r"L\['self'\]((?:\.\w+)+)", text)
    layer = next((found.strip(".") for found in scope if found), None)
    if layer:
        what += f" (layer {layer})"
    where = _place(chain, text) or _line_in(program, operator[1] if operator else "", what)
    return StepFailed(f"the model can't be exported: {what}", where=where, do=do)


def complex_error(reason: NoRealForm) -> StepFailed:
    """The error of a program that computes with complex numbers in a way that graphs can't have."""
    operator = str(reason).partition("\n")[0]
    return StepFailed(
        f"the model can't be exported: the graph has no complex numbers, and {operator} of them is "
        "not known as an operator on their real and imaginary parts",
        where=_last_frame(reason.place),
        do=_COMPLEX_ADVICE,
    )


def _chain(error: BaseException) -> Iterator[BaseException]:
    """An error, what it came from, and so on."""
    seen: list[BaseException] = []
    current: BaseException | None = error
    while current is not None and current not in seen:
        seen.append(current)
        yield current
        current = current.__cause__ or current.__context__


def _told(text: str) -> tuple[str, str] | None:
    for cause in _CAUSES:
        if found := cause.pattern.search(text):
            first = next((group for group in found.groups() if group), "")
            named = cause.what.format(first.removesuffix(".default"))
            return named.replace(" (operator )", "").replace("  ", " "), cause.do
    return None


def _place(chain: list[BaseException], text: str) -> str | None:
    """The user's line; else the line of the library that the model is from."""
    for link in chain:
        if place := users_line(link):
            return place
    return _last_frame(text) or next(filter(None, map(_library_frame, reversed(chain))), None)


def _library_frame(error: BaseException) -> str | None:
    """The innermost line of an installed library other than torch that an error went through."""
    for frame in reversed(traceback.extract_tb(error.__traceback__)):
        _, inside, short = frame.filename.rpartition("site-packages/")
        own = Path(frame.filename).is_relative_to(_OWN / "ray_workers")
        if inside and not own and not short.startswith("torch/"):
            return f"{short}:{frame.lineno} in {frame.name}"
    return None


def _line_in(program: Any, operator: str, what: str) -> str | None:
    """The line of a program's first node with an operator, or with complex numbers."""
    wanted = operator.replace("::", ".").removesuffix(".default")
    for node in program.graph.nodes if program is not None else ():
        value = node.meta.get("val")
        is_complex = "complex" in what and getattr(value, "is_complex", bool)()
        place = _last_frame(node.meta.get("stack_trace") or "")
        if place and (is_complex or (wanted and str(node.target).startswith(wanted))):
            return place
    return None


def _last_frame(text: str) -> str | None:
    frames = re.findall(r'File "([^"]+)", line (\d+), in (\w+)', text)
    frames = [f for f in frames if "/torch/" not in f[0] and not Path(f[0]).is_relative_to(_OWN)]
    own = [frame for frame in frames if "site-packages" not in frame[0]]
    if not frames:
        return None
    file, line, function = (own or frames)[-1]
    _, inside, short = file.rpartition("site-packages/")
    return f"{short if inside and not own else users_file(file)}:{line} in {function}"


def _reason(chain: list[BaseException]) -> str:
    for link in reversed(chain):
        lines = [line.strip() for line in str(link).splitlines() if line.strip()]
        if lines:
            return f"{type(link).__name__}: {clean(lines[0])}"
    return type(chain[0]).__name__

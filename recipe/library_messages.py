"""A library's error message, reduced to the one line that matters.

Library errors contain positions in C++ source, C++ signatures, addresses, temporary folders and
whole tracebacks, and the relevant sentence is often not the first one.
"""

from __future__ import annotations

import errno
import linecache
import re
import tempfile
from collections.abc import Callable, Sequence
from pathlib import PurePath

from .known_messages import Known, known
from .showable import showable

_LONGEST = 240  # characters


def telling(error: BaseException | str, longest: int = _LONGEST) -> str:
    """The sentence of an error that says what is wrong; the error's class if it has no text."""
    if isinstance(error, OSError) and error.strerror and not isinstance(error.errno, str):
        return _of_the_system(error)
    if isinstance(error, FileNotFoundError):
        return "there is no such file or folder"
    text = _ANSI.sub("", str(error))
    if row := known(text):
        return _shortened(clean(row[1]), longest)
    for pattern, sentence in _KNOWN:
        if found := pattern.search(text):
            return _shortened(clean(sentence(found)), longest)
    lines = [line for line in map(clean, _spoken(text)) if line]
    if not lines and (asserted := _asserted(error)):
        return asserted
    name = error if isinstance(error, str) else type(error).__name__
    return _shortened(lines[0], longest) if lines else name


def advice(error: BaseException) -> Known | None:
    """What is known of a library's error: what to do, and the field that it belongs to."""
    found = known(_ANSI.sub("", str(error)))
    return None if found is None else found[0]


def own_words(error: BaseException, longest: int = _LONGEST) -> str:
    """The first line of what the user's code raised, unchanged except for Hone's own folders.

    What a library raised in it is told as in `telling`; a bare assertion, by its line.
    """
    if found := known(_ANSI.sub("", str(error))):
        return _shortened(clean(found[1]), longest)
    if not str(error) and (asserted := _asserted(error)):
        return asserted
    lines = [line for line in map(clean, _ANSI.sub("", str(error)).splitlines()) if line]
    return _shortened(lines[0], longest) if lines else ""


def described(value: object) -> str:
    """What a value is, where something else was expected: None, an OrderedDict, the class Net."""
    if value is None:
        return "None"
    if isinstance(value, type):
        return f"the class {value.__name__}, not an object of it"
    name = type(value).__name__
    return f"{'an' if name[0].lower() in 'aeiou' or name == 'ndarray' else 'a'} {name}"


def _asserted(error: BaseException | str) -> str:
    """The line of an `assert` without a message; empty for other errors."""
    trace = error.__traceback__ if isinstance(error, AssertionError) else None
    if trace is None:
        return ""
    while trace.tb_next is not None:
        trace = trace.tb_next
    line = linecache.getline(trace.tb_frame.f_code.co_filename, trace.tb_lineno).strip()
    return _shortened(clean(line), _LONGEST) if line.startswith("assert") else ""


def clean(text: str) -> str:
    """A line without source positions, C++ signatures, addresses, and Hone's own folders."""
    text = _ANSI.sub("", text)
    for pattern, instead in _NOISE:
        text = pattern.sub(instead, text)
    text = _without_signatures(text)
    for pattern, instead in _POSITIONS:
        text = pattern.sub(instead, text)
    return showable(" ".join(text.split()).strip(" :-"))


def _of_the_system(error: OSError) -> str:
    said = {
        errno.ENOSPC: "no space left on the disk",
        errno.EDQUOT: "the disk quota is used up",
        errno.EACCES: "permission denied",
        errno.EROFS: "the file system is read-only",
        errno.ENOENT: "there is no such file or folder",
    }.get(error.errno or 0, str(error.strerror))
    name = error.filename if isinstance(error.filename, str | bytes | PurePath) else None
    shown = clean(name.decode(errors="replace") if isinstance(name, bytes) else str(name or ""))
    return f"{said}: '{shown}'" if shown else said


def _spoken(text: str) -> list[str]:
    """The informative lines: only the end of a traceback, only the sentences of a log."""
    *_, text = re.split(r"Traceback \(most recent call last\):\n(?:[ \t]+.*\n)*", text)
    text = re.split(r"Exception raised from |\nC\+\+ CapturedTraceback|\nframe #0", text)[0]
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return [line for line in lines if not _SILENT.match(line)] or lines[-1:]


def _shortened(text: str, longest: int) -> str:
    """Whole sentences, if the text is too long; of one that is too long by itself, whole words.

    Without a full stop at its end: what is told goes on behind it.
    """
    if len(text) > longest:
        sentence = text[:longest].rpartition(". ")[0]
        if len(sentence) <= longest / 3:
            words = text[: longest - 4].rpartition(" ")[0] or text[: longest - 4]
            return words.rstrip(" ,;:.") + " ..."
        text = sentence
    return text if text.endswith("...") else text.rstrip(".")


def _without_signatures(text: str) -> str:
    """Without `ns::Class::function(const A&, std::map<B, C>) const` after a source position."""
    while found := _SIGNATURE.search(text):
        depth, end = 1, found.end()
        while end < len(text) and depth:
            depth += {"(": 1, ")": -1}.get(text[end], 0)
            end += 1
        rest = re.sub(r"^\s*(const\b)?\s*(\[with [^\]]*\])?", "", text[end:])
        text = f"{text[: found.start()]} {rest}"
    return text


_ANSI = re.compile(r"\x1b\[[0-9;]*[A-Za-z]")
_SOURCE = r"(?:/?[\w.+\-]+/)*[\w.+\-]+\.(?:cc|cpp|cxx|h|hpp|cu|cuh|rs):\d+"
_SIGNATURE = re.compile(rf"{_SOURCE}:?\s+(?:[\w:<>,&*~ ]+ )?[\w~<>]+(?:::[\w~<>]+)+(?:<[^()]*>)?\(")
_POSITIONS = ((re.compile(rf"\s*\b(?:at |from )?{_SOURCE}:?|(?<!\w){_SOURCE}:?"), " "),)
_FOLDERS = "|".join(re.escape(f) for f in sorted({tempfile.gettempdir(), "/tmp"}))  # noqa: S108
_NOISE: tuple[tuple[re.Pattern[str], str], ...] = (
    (re.compile(r"\[ONNXRuntimeError\] : \d+ : [A-Z_]+ : "), ""),
    (re.compile(r"Load model from \S+ failed:\s*"), ""),
    (re.compile(r"\[enforce fail at [^\]]*\]\s*(?:[^.]* == [^.]*\.\s)?"), ""),
    (re.compile(r"\bfailed\. \(?This is an invalid model\.\)?|This is an invalid model\. "), ""),
    (re.compile(r"<?([\w.]+) object at 0x[0-9a-f]+>?"), r"\1"),
    (re.compile(r"\s*(?:\bat )?\b0x[0-9a-f]{4,}\b"), ""),
    # Paths in the store, in a step's temporary folder, or in site-packages.
    (re.compile(r"(?:\w+://)?[^\s'\"]*/artifacts/[0-9a-f]{64}/?"), ""),
    (re.compile(rf"(?:{_FOLDERS})/(?:hone-[^/\s'\"]+/)+(?:outputs/\w+/|all/)?"), ""),
    (re.compile(r"[^\s'\"]*/(?:site|dist)-packages/"), ""),
    (re.compile(r"^(?:Invalid model\. )?(?:(?:\w+\.)*\w*Error: )?(?=\S)"), ""),
)
#: Lines that say where something happened, or that something did.
_SILENT = re.compile(
    r"Exception from |Check '.*' failed at|Check .* failed at .*:$|FrontEnd API failed with|"
    r"Model wasn't fully converted|Summary:$|Loading input model$|While validating |"
    r"-- Conversion is failed for|-- \S+ with a message:$|File \".*\", line \d+|[~^]+$|"
    r"Error\(s\) in loading state_dict|The above exception|During handling of|\[\d+\] ?$|"
    r"From user code|Set TORCH|You can suppress|E\d{4} |W\d{4} "
)


def _version(module: str) -> str:
    from importlib.metadata import PackageNotFoundError, version

    try:
        return ".".join(version(module).split(".")[:2])
    except PackageNotFoundError:
        return ""


def _newer(what: str) -> Callable[[re.Match[str]], str]:
    return lambda m: (
        f"{what} {m['is']} is newer than ONNX Runtime {_version('onnxruntime')} reads "
        f"(up to {m['most']})"
    )


def _operator(name: str, domain: str = "", runtime: str = "ONNX Runtime") -> str:
    home = f" of the domain '{domain}'" if domain else ""
    return f"{runtime} has no operator '{name}'{home}"


def _converted(found: re.Match[str]) -> str:
    """OpenVINO's list of operations without a rule."""
    domain, _, name = found["op"].rpartition(".")
    return _operator(re.sub(r"-\d+$", "", name), domain, "OpenVINO")


def _state(found: re.Match[str]) -> str:
    """Weights that are not the model's: which, and by how much."""
    text = found.string
    parts = []
    wrong = _MISMATCH.findall(text)
    if wrong:
        name, has, wants = wrong[0]
        parts.append(
            f"'{name}' has shape ({has}) in the file and ({wants}) in the model{more(wrong)}"
        )
    for pattern, said in (
        (r"Missing key\(s\) in state_dict: (.*)", "the file has no {}"),
        (r"Unexpected key\(s\) in state_dict: (.*)", "the model has no {}"),
    ):
        if listed := re.search(pattern, text):
            names = re.findall(r'"([^"]+)"', listed[1])
            parts.append(said.format(f"'{names[0]}'") + more(names))
    return "; ".join(parts)


def more(names: Sequence[object]) -> str:
    """How many there are beside the first."""
    return f" (and {len(names) - 1} more)" if len(names) > 1 else ""


def _bytes(count: str) -> str:
    size = float(count)
    units = ["bytes", "kB", "MB", "GB", "TB"]
    while size >= 1000 and len(units) > 1:
        size /= 1000
        del units[0]
    return f"{size:.3g} {units[0]}"


_MISMATCH = re.compile(
    r"size mismatch for (\S+): copying a param with shape torch\.Size\(\[([\d, ]*)\]\) from "
    r"checkpoint, the shape in current model is torch\.Size\(\[([\d, ]*)\]\)"
)
Sentence = Callable[[re.Match[str]], str]
_TABLE: tuple[tuple[str, Sentence], ...] = (
    # ONNX Runtime
    (r"Unsupported model IR version: (?P<is>\d+), max supported IR version: (?P<most>\d+)",
     _newer("IR version")),
    (r"Opset (?P<is>\d+) is under development.*support for domain (?P<of>\S+) is till opset "
     r"(?P<most>\d+)", _newer("opset")),
    (r"No Op registered for (\w+) with domain_version of (\d+)",
     lambda m: f"{_operator(m[1])} in opset {m[2]}"),
    (r"No opset import for domain\W+([\w.]*)",
     lambda m: f"the graph uses the domain '{m[1]}' and does not import it"),
    (r"Fatal error: (?:([\w.]+):)?(\w+)\(-?\d+\) is not a registered function/op",
     lambda m: _operator(m[2], m[1] or "")),
    (r"Could not find an implementation for (\w+)\((\d+)\) node with name '([^']*)'",
     lambda m: f"ONNX Runtime has no kernel for {m[1]} with these types (node '{m[3]}')"),
    (r"Type '([^']+)' of input parameter \(([^)]*)\) of operator \((\w+)\) in node \(([^)]*)\)",
     lambda m: f"{m[3]} does not take {m[1]} (input '{m[2]}')"),
    (r"Node \(([^)]*)\) Op \((\w+)\) \[\w+\] (.*)", lambda m: f"{m[2]} {_quoted(m[1])}: {m[3]}"),
    (r"Got invalid dimensions for input: (\S+) for the following indices\s+index: (\d+) Got: "
     r"(\d+) Expected: (\d+)",
     lambda m: f"the input '{m[1]}' has {m[3]} in dimension {m[2]}, expected {m[4]}"),
    (r"Invalid rank for input: (\S+) Got: (\d+) Expected: (\d+)",
     lambda m: f"the input '{m[1]}' has {m[2]} dimensions, expected {m[3]}"),
    (r"Unexpected input data type\. Actual: \(tensor\((\w+)\)\) , expected: \(tensor\((\w+)\)\)",
     lambda m: f"an input is of type {m[1]}, expected {m[2]}"),
    (r"status code returned while running (\w+) node\. Name:'([^']*)' Status Message: (.*)",
     lambda m: f"{m[1]} {_quoted(m[2])}: {_without_function(m[3])}"),
    (r"Protobuf parsing failed|Error parsing message with type 'onnx",
     lambda m: "it is not an ONNX file, or it is cut off"),
    # OpenVINO
    (r"No conversion rule found for operations: (?P<op>[\w.\-]+)", _converted),
    (r"Unsupported operator version: (\w+):(\d+)",
     lambda m: f"{_operator(m[1], '', 'OpenVINO')} in opset {m[2]}"),
    (r"Unable to read the model: ", lambda m: "it is not a model that OpenVINO reads"),
    (r"-- (\w+)-\d+ with a message:\n(?:While validating [^\n]*\n)+([^\n]+)",
     lambda m: f"{m[1]}: {m[2]}"),
    # torch
    (r"CUDA out of memory\. (Tried to allocate [\d.]+ \w+)",
     lambda m: f"the GPU's memory ran out ({m[1][0].lower()}{m[1][1:]})"),
    (r"can't allocate memory: you tried to allocate (\d+) bytes",
     lambda m: f"the memory ran out (tried to allocate {_bytes(m[1])})"),
    (r"size mismatch for |(?:Missing|Unexpected) key\(s\) in state_dict", _state),
    (r"Unsupported global: GLOBAL ([\w.]+)",
     lambda m: f"it holds an object of {m[1]}, which only a pickle can load"),
    (r"WeightsUnpickler error: (.*)", lambda m: m[1]),
    (r"schema version SchemaVersion\(major=(\d+).*current schema version \((\d+)",
     lambda m: f"another version of torch saved it (schema {m[1]}; torch {_version('torch')} "
               f"reads {m[2]})"),
    (r"Saved archive version (\d+) does not match our current archive version (\d+)",
     lambda m: f"another version of torch saved it (archive {m[1]}; torch {_version('torch')} "
               f"reads {m[2]})"),
    (r"failed to resolve torch\.ops\.([\w.]+) to an operator",
     lambda m: f"it uses the operator {m[1]}, which is not registered here"),
    (r"PytorchStreamReader failed locating file (\S+):",
     lambda m: f"it holds no {m[1].rpartition('/')[2]}, so it is no exported program"),
    # safetensors
    (r"deserializing header: (?:header too small|invalid header length|header too large)",
     lambda m: "it is not a safetensors file, or it is cut off"),
    (r"deserializing header: incomplete metadata",
     lambda m: "its size is not the one that its header tells: it is cut off, or was changed"),
    (r"deserializing header: .*unknown variant `(\w+)`",
     lambda m: f"its header names the type {m[1]}, which this safetensors does not know"),
    (r"deserializing header: (.*)", lambda m: f"its header can't be read: {m[1]}"),
    # transformers and Keras
    (r"no file named ([\w.]+\.safetensors) found",
     lambda m: f"the folder has no {m[1]}"),
    (r"has model type `([^`]+)` but Transformers does not recognize",
     lambda m: f"transformers {_version('transformers')} has no model type '{m[1]}'"),
    (r"contains custom code which must be executed",
     lambda m: "it needs code of its own, which is not run"),
    (r"config file at .* is not a valid JSON", lambda m: "its config.json is not valid JSON"),
    (r"Should have a `model_type` key", lambda m: "its config.json names no model_type"),
    (r"deserialization of a `Lambda` layer", lambda m: "it has a Lambda layer, which holds code"),
    (r"There is no item named '?\\?'?([\w.]+)\\?'? in the archive",
     lambda m: f"it holds no {m[1]}"),
    (r"for object <(\w+) name=([\w/]+)[^>]*>:[\s\S]*variable\.shape=\(([\d, ]*)\), Received: "
     r"value\.shape=torch\.Size\(\[([\d, ]*)\]\)",
     lambda m: f"the weights of {m[1]} '{m[2]}' have shape ({m[4]}), expected ({m[3]})"),
    (r"Could not locate class '(\w+)'|could not be deserialized properly[\s\S]*?"
     r"'module': '(?!keras|builtins)[\w.]+', 'class_name': '(\w+)'",
     lambda m: f"it has a layer {m[1] or m[2]}, which is not one of Keras's own"),
    (r"Unterminated string|Expecting (?:value|property name|',' delimiter)|Extra data: line",
     lambda m: "it holds a text that is not valid JSON"),
    (r"No space left on device", lambda m: "no space left on the disk"),
    (r"In Node, \(\"([^\"]*)\", (\w+),.*Error (.+)",
     lambda m: f"{m[2]} '{m[1]}': {m[3][0].lower()}{m[3][1:]}"),
)  # fmt: skip
_KNOWN = tuple((re.compile(pattern), sentence) for pattern, sentence in _TABLE)


def _without_function(said: str) -> str:
    """A status of ONNX Runtime without the C++ function and the condition that it was found by."""
    said = re.sub(r"^\w+\.(?:h|cc):\d+ \w+ ", "", said)
    return re.sub(r"[^.]* was false. ", "", clean(said))


def _quoted(name: str) -> str:
    return f"'{name}'" if name else "(unnamed)"

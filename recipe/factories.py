"""Factories: functions that a recipe names by import path, and which ones it may name.

A parameter from a user interface must not run arbitrary code. So an import path resolves only if
it is allowed: Hone's own factories by their exact names; what `HONE_ALLOWED_PREFIXES` adds, which
lists packages, modules, and single functions as `module:function` (comma-separated); and, only for
a recipe file that a person runs from the command line, the modules in its own `code` folder. A
package allows the functions defined in it, not what its modules import, and nothing private.
"""

from __future__ import annotations

import importlib
import importlib.util
import os
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from types import FrameType, ModuleType
from typing import Any

from .code_path import RESERVED, modules_in, put_on_path, take_off_path
from .errors import HoneError, InputError, StepFailed, did_you_mean, nearest, place_of
from .library_messages import advice, own_words, telling
from .strict import Strict

_OURS = "prefect_hone"
BUNDLED = f"{_OURS}.recipe.examples"
#: Hone's factories that read a model from a path, and the one that detects its format.
SOURCES = f"{_OURS}.ray_workers.model.incoming"
READ = f"{SOURCES}:read"
READERS = (
    READ,
    *(f"{SOURCES}:{name}" for name in (
        "keras_model", "mlflow_model", "onnx_graph", "program", "transformers_model"
    )),
)  # fmt: skip
#: All that a recipe may name of Hone itself.
OWN_FACTORIES = (
    *READERS,
    f"{BUNDLED}.charlm.charlm_data:charlm_data",
    f"{BUNDLED}.charlm.charlm_model:charlm",
    f"{BUNDLED}.digits.digits_data:digits",
    f"{BUNDLED}.digits.digits_model:small_resnet",
)
#: Losses of torch: functions of outputs and targets, and of nothing else.
TORCH_LOSSES = tuple(
    f"torch.nn.functional:{name}" for name in (
        "binary_cross_entropy", "hinge_embedding_loss", "kl_div", "multi_margin_loss",
        "multilabel_margin_loss", "multilabel_soft_margin_loss", "nll_loss", "poisson_nll_loss",
        "smooth_l1_loss", "soft_margin_loss",
    )
)  # fmt: skip


class Allowed(Strict):
    """Which factories a recipe may name.

    Attributes:
        prefixes: Packages and modules whose own functions may be named.
        functions: Import paths that may be named as they are.
        modules: Top-level modules of the recipe's own code folder.
        outside: Digest by name of the modules outside it and the installed packages that code may
            import; None: it is not looked at.
    """

    prefixes: tuple[str, ...] = ()
    functions: tuple[str, ...] = OWN_FACTORIES
    modules: tuple[str, ...] = ()
    outside: dict[str, str] | None = None

    @staticmethod
    def from_environment(code: Path | None = None) -> Allowed:
        """Hone's factories, `HONE_ALLOWED_PREFIXES`, and the modules of a code folder."""
        given = [name.strip() for name in os.environ.get("HONE_ALLOWED_PREFIXES", "").split(",")]
        added = [name for name in given if name and name.partition(".")[0] != _OURS]
        return Allowed(
            prefixes=tuple(name for name in added if ":" not in name),
            functions=(*OWN_FACTORIES, *(name for name in added if ":" in name)),
            modules=top_level_modules(code) if code else (),
        )

    def permits(self, path: str) -> bool:
        """Whether an import path may be named: `module:name`, or a module."""
        if path in self.functions or path in TORCH_LOSSES:
            return True
        module, _, name = path.partition(":")
        if name.startswith("_"):
            return False
        if self.is_own(module):
            return True
        private = any(part.startswith("_") for part in module.split("."))
        return not private and self._under_prefix(module)

    def is_own(self, module: str) -> bool:
        """Whether a module is one of the recipe's code folder."""
        return module.partition(".")[0] in self.modules

    def _under_prefix(self, module: str) -> bool:
        return any(module == p or module.startswith(f"{p}.") for p in self.prefixes)

    def resolve(self, path: str, what: str) -> Callable[..., Any]:
        """The function at an import path.

        Args:
            path: `module:function`.
            what: What it is for, as an error calls it (`model.factory`).

        Raises:
            InputError: It lies outside the allowed prefixes, does not exist, can't be imported
                or is not a function.
        """
        found = self._imported(path, what)
        if not callable(found):
            name = path.partition(":")[2]
            raise InputError(f"'{name}' is not a function", where=f"{what}: {path}")
        self._check_home(found, path, what)
        return found  # type: ignore[no-any-return]

    def find(self, path: str, what: str) -> Any:
        """Whatever is at an import path: a function, a class, an object or a module.

        Args:
            path: `module:name`, where `name` may be a module in it; or `module`.
            what: What it is for, as an error calls it (`quality.metric`).

        Raises:
            InputError: It lies outside the allowed prefixes, does not exist or can't be imported.
        """
        found = self._imported(path, what)
        self._check_home(found, path, what)
        return found

    def _imported(self, path: str, what: str) -> Any:
        self.check(path, what)
        module_name, _, name = path.partition(":")
        module = self._module(module_name, path, what)
        if not name:
            return module
        found = getattr(module, name, None)
        inner = f"{module_name}.{name}"
        if found is None and hasattr(module, "__path__") and importlib.util.find_spec(inner):
            found = self._module(inner, path, what)
        if found is None:
            names = [n for n, v in vars(module).items() if callable(v) and not n.startswith("_")]
            raise InputError(
                f"'{module_name}' has no '{name}': {did_you_mean(name, names)}",
                where=f"{what}: {path}",
            )
        return found

    def _module(self, name: str, path: str, what: str) -> ModuleType:
        try:
            return importlib.import_module(name)
        except ModuleNotFoundError as error:
            missing = error.name or name
            place = users_line(error)
            raise InputError(
                f"there is no module '{missing}'" + (f" (imported in {place})" if place else ""),
                where=f"{what}: {path}",
                do="add it to the recipe's `code` folder, or install the package that has it",
            ) from None
        except Exception as error:
            raise raised(f"importing '{name}'", error, f"{what}: {path}") from error

    def _check_home(self, found: Any, path: str, what: str) -> None:
        """Refuse what an allowed module merely imports from elsewhere."""
        if path in self.functions or path in TORCH_LOSSES:
            return
        module, _, name = path.partition(":")
        home = found.__name__ if isinstance(found, ModuleType) else getattr(
            found, "__module__", None)  # fmt: skip
        if not self.is_own(module) and not (isinstance(home, str) and self._under_prefix(home)):
            raise InputError(
                f"'{name}' is defined in '{home}', outside the allowed prefixes",
                where=f"{what}: {path}",
                do=_wrap_or_allow(path),
            )

    def check(self, path: str, what: str) -> None:
        """Refuse an import path outside the allowed prefixes, importing nothing.

        Raises:
            InputError: It lies outside.
        """
        if self.permits(path):
            return
        module, _, name = path.partition(":")
        where = f"{what}: {path}"
        if name.startswith("_") or (self._under_prefix(module) and not self.is_own(module)):
            raise InputError(
                "a recipe can't name what is private (a name with a leading underscore)",
                where=where,
                do="give it a public name",
            )
        if module.partition(".")[0] == _OURS:
            hint = did_you_mean(path, self.functions)
            raise InputError(
                "this is outside the allowed prefixes: of Hone itself a recipe can name only the "
                "readers of models and the factories of the examples",
                where=where,
                do=hint if hint.startswith("did") else "give model.source for a model in a file",
            )
        if self.modules and module.partition(".")[0] in RESERVED:
            raise InputError(
                f"'{module}' is outside the allowed prefixes: it is a module of Python or of a "
                "library that Hone uses",
                where=where,
                do="name a function in your `code` folder that calls it; or if it is a file there, "
                "give it another name",
            )
        own = [*self.modules, *self.prefixes]
        like = nearest(module, own)
        hint = f": did you mean '{like}'?" if like else ""
        raise InputError(
            f"'{module}' is outside the allowed prefixes{hint}",
            where=where,
            do="put the module in the recipe's `code` folder and use the command line, or "
            + _wrap_or_allow(path),
        )

    def call(self, factory: str, args: dict[str, Any], what: str) -> Any:
        """Resolve a factory and call it.

        Raises:
            InputError: As `resolve`, or because the factory raised; then with its own first line
                and the line of the user's that it came from.
        """
        function = self.resolve(factory, what)
        try:
            return function(**args)
        except HoneError as error:  # it says by itself what is wrong, and mostly where
            if error.where is not None:
                raise
            raise type(error)(error.what, where=f"{what}: {factory}", do=error.do) from error
        except (Exception, SystemExit) as error:
            if factory.startswith(f"{SOURCES}:"):
                where = origin(factory, args)
                raise InputError(f"it can't be read: {telling(error)}", where=where) from error
            raise raised("the factory", error, f"{what}: {factory}") from error


def _wrap_or_allow(path: str) -> str:
    """Advice that lends no more than the one function, and nothing of Python's own library."""
    wrap = "wrap it in a function of yours"
    if path.partition(":")[0].partition(".")[0] in sys.stdlib_module_names:
        return wrap
    return f"{wrap}, or allow it, and nothing else, with HONE_ALLOWED_PREFIXES={path}"


def origin(factory: str, args: dict[str, Any], what: str = "model.factory") -> str:
    """How an error refers to a model: the recipe's field, with its factory or its file."""
    if factory.startswith(f"{SOURCES}:"):
        return f"model.source: {args.get('path', '')}"
    return f"{what}: {factory}"


def raised(who: str, error: BaseException, where: str) -> InputError:
    """An error raised by the user's code, with the line of that code."""
    place = users_line(error)
    if refused := _refused_import(error):
        return InputError(
            refused.what + (f" (imported in {place})" if place else ""), where=where, do=refused.do
        )
    said = error.msg if isinstance(error, SyntaxError) else own_words(error)
    what = f"{who} raised {type(error).__name__}" + (f": {said}" if said else "")
    row = advice(error)
    return InputError(
        what + (f" ({place})" if place else ""), where=where, do=row.do if row else None
    )


def unexpected(error: BaseException) -> HoneError:
    """An unexpected exception: the user's mistake if it passed through their code."""
    name, place = type(error).__name__, users_line(error)
    memory = "OutOfMemory" in name or any(word in str(error) for word in _NO_MEMORY)
    if memory or isinstance(error, MemoryError):
        return StepFailed(
            telling(error) if str(error) else "the memory ran out",
            where=place or place_of(error),
            do="lower train.batch_size or benchmark.batch_sizes, or run on a machine with more",
        )
    row = advice(error)
    if refused := _refused_import(error):
        return InputError(refused.what, where=place or place_of(error), do=refused.do)
    if place is not None:
        said = own_words(error)
        return InputError(
            f"your code raised {name}" + (f": {said}" if said else ""),
            where=place,
            do=row.do if row else None,
        )
    if row is not None and row.field is not None:
        return InputError(telling(error), where=row.field, do=row.do)
    return StepFailed(
        f"{name}: {telling(error)}", where=place_of(error), do=row.do if row else None
    )


def _refused_import(error: BaseException) -> Any:
    """The refusal of a module (`runtimes/outside_code.py`) that an error comes from."""
    ahead: BaseException | None = error
    while ahead is not None:
        if isinstance(ahead, ImportError) and hasattr(ahead, "what") and hasattr(ahead, "do"):
            return ahead
        ahead = ahead.__cause__
    return None


def users_line(error: BaseException) -> str | None:
    """`FILE:LINE in FUNCTION` of the user's code that an error passed through last.

    The user's code is what is in a code folder, under an allowed prefix, or in an example; a file
    is shown relative to that folder. None if the error did not pass through any.
    """
    if isinstance(error, SyntaxError) and error.filename:
        return f"{_shown(error.filename, '')}:{error.lineno}"
    allowed = Allowed.from_environment()
    found: str | None = None
    for frame, line in traceback.walk_tb(error.__traceback__):
        if _is_users(frame, allowed):
            name = str(frame.f_globals.get("__name__", ""))
            place = f"{_shown(frame.f_code.co_filename, name)}:{line}"
            function = frame.f_code.co_name
            found = place if function.startswith("<") else f"{place} in {function}"
        elif found is not None and f"torch{os.sep}distributed{os.sep}" in frame.f_code.co_filename:
            found = None  # what failed lies between workers, not in the line that led there
    return found


def users_place() -> str | None:
    """`FILE:LINE in FUNCTION` of the user's code that is running now; None if none of it is."""
    allowed = Allowed.from_environment()
    for frame, line in traceback.walk_stack(None):
        if _is_users(frame, allowed):
            name = str(frame.f_globals.get("__name__", ""))
            return f"{_shown(frame.f_code.co_filename, name)}:{line} in {frame.f_code.co_name}"
    return None


def users_file(path: str) -> str:
    """A file of the user's code as their folder has it, wherever a worker keeps its copy."""
    return _shown(path, "")


def _is_users(frame: FrameType, allowed: Allowed) -> bool:
    path, name = frame.f_code.co_filename, str(frame.f_globals.get("__name__", ""))
    if path.startswith(tuple(f"{folder}{os.sep}" for folder in _used)):
        return True
    if name.startswith(f"{_OURS}."):
        return name.startswith(f"{BUNDLED}.")
    return bool(name) and (allowed.permits(name) or any(
        path.startswith(f"{name}:") for path in allowed.functions
    ))  # fmt: skip


def _shown(path: str, module: str) -> str:
    """A file as the user knows it: relative to the code folder, or to where its package is."""
    for folder in _used:
        if path.startswith(folder + os.sep):
            return path[len(folder) + 1 :]
    parts = Path(path).parts
    depth = module.count(".") + (Path(path).name == "__init__.py") + 1
    return str(Path(*parts[-depth:])) if module else Path(path).name


def top_level_modules(folder: Path) -> tuple[str, ...]:
    """Names of the modules and packages in a folder that can be imported from it."""
    names = {path.stem for path in modules_in(folder)} - RESERVED
    return tuple(sorted(name for name in names if name.isidentifier()))


_NO_MEMORY = ("out of memory", "can't allocate memory", "bad allocation", "std::bad_alloc")
_used: list[str] = []


def use_code(folder: Path) -> None:
    """Put a code folder on the import path, in place of one that was used before.

    A worker process may serve several runs: modules that came from another version of the
    folder are forgotten, or the old code would be used again.
    """
    path = str(folder)
    for old in [used for used in _used if used != path]:
        _used.remove(old)
        take_off_path(old)
        for name, module in list(sys.modules.items()):
            if str(getattr(module, "__file__", None) or "").startswith(old + os.sep):
                del sys.modules[name]
    if path not in _used:
        _used.append(path)
        put_on_path(path)
    importlib.invalidate_caches()


def user_modules() -> list[Any]:
    """Modules that were loaded from a code folder."""
    return [
        module
        for module in list(sys.modules.values())
        if str(getattr(module, "__file__", None) or "").startswith(
            tuple(f"{p}{os.sep}" for p in _used)
        )
    ]

"""The grammar of symbolic sizes in a `torch.export` program.

torch reads them with sympy's `sympify`, which evaluates any Python. So an expression is parsed here
first, with `ast`, and only what `torch.export.save` writes is kept: integers, symbols, arithmetic,
and the functions below. The result is written out again from the tree, so that what sympy evaluates
is what was checked.
"""

from __future__ import annotations

import ast
import re

from ...recipe.syntax import syntax_tree

#: Functions of sympy and torch whose arguments are expressions.
_FUNCTIONS = frozenset({
    "Abs", "Add", "And", "Eq", "Equality", "Ge", "GreaterThan", "Gt", "ITE", "Le", "LessThan",
    "Lt", "Max", "Min", "Mod", "Mul", "Ne", "Not", "Or", "Piecewise",  "Rational",
    "StrictGreaterThan", "StrictLessThan", "Tuple", "Unequality", "ceiling", "floor",
    "CeilDiv", "CeilToInt", "CleanDiv", "FloatTrueDiv", "FloorDiv", "FloorToInt",
    "Identity", "IntTrueDiv", "IsNonOverlappingAndDenseIndicator", "ModularIndexing",
    "PythonMod", "RoundDecimal", "RoundToInt", "ToFloat", "TruncToFloat",
    "TruncToInt", "Where",
})  # fmt: skip
#: Functions whose second argument must be a small number, because the result grows with it.
_POWERS = frozenset({"Pow", "PowByNatural", "FloatPow", "LShift", "RShift"})
_CONSTANTS = frozenset({"true", "false", "oo", "int_oo", "True", "False"})
#: What a symbol may be assumed to be.
_ASSUMPTIONS = frozenset({
    "commutative", "extended_real", "finite", "integer", "negative", "nonnegative", "nonpositive",
    "nonzero", "positive", "rational", "real", "zero",
})  # fmt: skip
_OPERATORS = (ast.Add, ast.Sub, ast.Mult, ast.Div, ast.FloorDiv, ast.Mod)
_COMPARISONS = (ast.Eq, ast.NotEq, ast.Lt, ast.LtE, ast.Gt, ast.GtE)
#: torch counts up to the number of a symbol, so it has at most five digits.
SYMBOL = re.compile(r"(?:s|u|zf|zuf|ps|i|f)\d{1,5}", re.ASCII)
_LONGEST, _DEEPEST = 20_000, 60
_LARGEST = 2**63
_HIGHEST_POWER = 64  # of all powers within each other together


class NotAllowed(ValueError):
    """Something that `torch.export.save` does not write; the text says what."""


def checked_expression(text: str) -> str:
    """An expression as it is given to sympy.

    Raises:
        NotAllowed: It is not of the grammar.
    """
    if len(text) > _LONGEST or not text.isascii():
        raise NotAllowed(f"a symbolic size of {len(text):,} characters")
    try:
        tree = syntax_tree(text.strip(), "eval")
        _check(tree.body, 0, 1)
        return ast.unparse(tree)
    except (SyntaxError, ValueError, MemoryError, RecursionError) as error:
        if isinstance(error, NotAllowed):
            raise NotAllowed(f"the symbolic size '{_short(text)}': {error}") from None
        raise NotAllowed(f"the symbolic size '{_short(text)}'") from None


def _check(node: ast.expr, depth: int, power: int) -> None:
    if depth > _DEEPEST:
        raise NotAllowed("it is nested too deeply")
    if power > _HIGHEST_POWER:
        raise NotAllowed("a power is not a small number")
    inner = depth + 1
    match node:
        case ast.Constant(value=bool()):
            return
        case ast.Constant(value=int(value)) if abs(value) <= _LARGEST:
            return
        case ast.Constant(value=float()):
            return
        case ast.Name(id=name) if name in _CONSTANTS or SYMBOL.fullmatch(name):
            return
        case ast.UnaryOp(op=ast.USub() | ast.UAdd(), operand=operand):
            _check(operand, inner, power)
        case ast.BinOp(op=op, left=left, right=right) if isinstance(op, _OPERATORS):
            _check(left, inner, power)
            _check(right, inner, power)
        case ast.BinOp(op=ast.Pow(), left=left, right=right):
            _check(left, inner, power * _power(right))
        case ast.Compare(left=left, ops=ops, comparators=rest) if all(
            isinstance(op, _COMPARISONS) for op in ops
        ):
            for part in (left, *rest):
                _check(part, inner, power)
        case ast.Call(func=ast.Name(id=name), args=args, keywords=keywords):
            _check_call(name, args, keywords, inner, power)
        case _:
            raise NotAllowed(f"a {type(node).__name__} does not occur in one")


def _check_call(
    name: str, args: list[ast.expr], keywords: list[ast.keyword], depth: int, power: int
) -> None:
    match name, args:
        case "Symbol", [ast.Constant(value=str(symbol))] if SYMBOL.fullmatch(symbol):
            for keyword in keywords:
                known = keyword.arg in _ASSUMPTIONS and isinstance(keyword.value, ast.Constant)
                if not known or not isinstance(keyword.value.value, bool):  # type: ignore[attr-defined]
                    raise NotAllowed(f"a symbol has no '{keyword.arg}'")
            return
        case "Integer", [ast.Constant(value=int()) | ast.UnaryOp()]:
            _check(args[0], depth, power)
        case "Float", [ast.Constant(value=str(number))] if _is_number(number):
            keywords = [k for k in keywords if not _is_precision(k)]
        case _, [base, exponent] if name in _POWERS:
            _check(base, depth, power * _power(exponent))
        case _ if name in _FUNCTIONS:
            for argument in args:
                _check_argument(argument, depth, power)
        case _:
            raise NotAllowed(f"'{_short(name)}' does not occur in one")
    if keywords:
        raise NotAllowed(f"{name} has no keywords")


def _check_argument(node: ast.expr, depth: int, power: int) -> None:
    """An argument may also be a tuple of expressions, as in Piecewise and ModularIndexing."""
    if isinstance(node, ast.Tuple):
        for element in node.elts:
            _check(element, depth, power)
    else:
        _check(node, depth, power)


def _power(node: ast.expr) -> int:
    """A power is a small whole number, or one over it: 10**10**10 would never end."""
    match node:
        case ast.Constant(value=bool()):
            pass
        case ast.Constant(value=int(value)) if abs(value) <= _HIGHEST_POWER:
            return max(1, abs(value))
        case ast.UnaryOp(op=ast.USub(), operand=operand):
            return _power(operand)
        case ast.Call(func=ast.Name(id="Integer"), args=[number], keywords=[]):
            return _power(number)
        case ast.Call(func=ast.Name(id="Rational"), args=[above, below], keywords=[]):
            return _power(above) * _power(below)
    raise NotAllowed("a power is not a small number")


def _is_number(text: str) -> bool:
    return re.fullmatch(r"-?\d{1,40}(\.\d{0,40})?(e[+-]?\d{1,3})?", text, re.ASCII) is not None


def _is_precision(keyword: ast.keyword) -> bool:
    match keyword:
        case ast.keyword(arg="precision", value=ast.Constant(value=int(bits))):
            return bits <= 256
    return False


def _short(text: str) -> str:
    shown = "".join(c if c.isprintable() else "?" for c in text)
    return shown if len(shown) <= 80 else shown[:77] + "..."

"""Regimes: kinds of stars by an expression in their labels, such as "feh <= -1" or "feh > -1 and teff < 5000"."""

from __future__ import annotations

import ast
import operator
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stores.errors import OptionError

REGIMES = {
    "metal_rich": "feh > -1",
    "metal_poor": "feh <= -1",
    "very_metal_poor": "feh <= -2",
}
ALL = "all"  # every star; as a name on the command line, every regime above

COMPARISONS: dict[type[ast.cmpop], Callable[[Any, Any], Any]] = {
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
}


@dataclass(frozen=True)
class Regime:
    """A kind of stars. Raises OptionError for an expression that is none."""

    name: str
    expression: str

    def __post_init__(self) -> None:
        self._tree()

    @classmethod
    def parse(cls, text: str) -> list[Regime]:
        """The regimes that a command-line word means: a name above, `all` of them, or NAME=EXPRESSION."""
        if text == ALL:
            return [cls(name, expression) for name, expression in REGIMES.items()]
        if text in REGIMES:
            return [cls(text, REGIMES[text])]
        name, equals, expression = text.partition("=")
        if equals and name.isidentifier() and name not in (ALL, *REGIMES):
            return [cls(name, expression.strip())]
        raise OptionError(
            f"--regime '{text}' is unknown; name {', '.join(REGIMES)}, all, or one of your own as "
            "NAME=EXPRESSION, such as 'cool=teff < 5000 and feh > -1'."
        )

    @property
    def names(self) -> tuple[str, ...]:
        """The columns that the expression is in."""
        return tuple(sorted({node.id for node in ast.walk(self._tree()) if isinstance(node, ast.Name)}))

    def of(self, columns: Mapping[str, NDArray[np.float64]]) -> NDArray[np.bool_]:
        """(n,) True for the stars that belong; a star whose label is unknown (NaN) does not.

        Raises OptionError for a label that is not among the columns.
        """
        lacking = [name for name in self.names if name not in columns]
        if lacking:
            raise OptionError(
                f"the regime '{self.name}' asks for '{lacking[0]}', and the stars have {', '.join(columns)} only."
            )
        known = np.logical_and.reduce([np.isfinite(columns[name]) for name in self.names])
        return np.asarray(_value(self._tree().body, columns), dtype=bool) & known

    def _tree(self) -> ast.Expression:
        try:
            tree = ast.parse(self.expression, mode="eval")
            names = [node.id for node in ast.walk(tree) if isinstance(node, ast.Name)]
            if not names:
                raise ValueError
            _value(tree.body, dict.fromkeys(names, np.zeros(1)))
        except (SyntaxError, ValueError):
            raise OptionError(
                f"'{self.expression}' of the regime '{self.name}' is no expression like 'feh <= -1 and teff < 5000'."
            ) from None
        return tree


def _value(node: ast.expr, columns: Mapping[str, NDArray[np.float64]]) -> Any:
    """What a node of an expression means; only comparisons of labels and numbers, and, or, not."""
    match node:
        case ast.BoolOp(op, values):
            join = np.logical_and if isinstance(op, ast.And) else np.logical_or
            return join.reduce([_value(value, columns) for value in values])
        case ast.UnaryOp(ast.Not(), operand):
            return ~_value(operand, columns)
        case ast.Compare(left, operators, others):
            sides = [_number(side, columns) for side in (left, *others)]
            pairs = zip(operators, sides[:-1], sides[1:], strict=True)
            return np.logical_and.reduce([_compare(op, one, other) for op, one, other in pairs])
    raise ValueError


def _compare(op: ast.cmpop, one: Any, other: Any) -> Any:
    if type(op) not in COMPARISONS:
        raise ValueError
    return COMPARISONS[type(op)](one, other)


def _number(node: ast.expr, columns: Mapping[str, NDArray[np.float64]]) -> Any:
    match node:
        case ast.Name(name):
            return columns[name]
        case ast.Constant(value) if isinstance(value, int | float) and not isinstance(value, bool):
            return value
        case ast.UnaryOp(ast.USub(), operand):
            return -_number(operand, columns)
    raise ValueError

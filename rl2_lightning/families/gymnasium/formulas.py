"""Formulas of attributes, such as `masspole * length`: read, never executed as code."""

import ast
import operator
from collections.abc import Callable
from typing import Any

from rl2_lightning.errors import UserError

OPERATORS: dict[type[ast.operator], Callable[[Any, Any], Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
}


def evaluate(formula: str, value_of: Callable[[str], Any]) -> Any:
    """The value of a formula.

    Args:
        formula: numbers and names, joined by + - * / and brackets.
        value_of: the value of a name.

    Raises:
        UserError: the formula contains anything else.
    """
    try:
        return _value(ast.parse(formula, mode="eval").body, value_of)
    except (SyntaxError, ValueError) as error:
        raise UserError(
            f"the formula {formula} is not one of numbers, names, + - * / and brackets: write it "
            "with these"
        ) from error


def _value(node: ast.expr, value_of: Callable[[str], Any]) -> Any:
    if isinstance(node, ast.BinOp) and type(node.op) in OPERATORS:
        return OPERATORS[type(node.op)](_value(node.left, value_of), _value(node.right, value_of))
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
        return -_value(node.operand, value_of)
    if isinstance(node, ast.Constant) and type(node.value) in (int, float):
        return node.value
    if isinstance(node, ast.Name):
        return value_of(node.id)
    raise ValueError(ast.dump(node))

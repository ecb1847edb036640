"""How the fields of a config look as options: names instead of functions, weights in order."""

import dataclasses
from collections.abc import Callable
from typing import Annotated, Any

import tyro

from rvpo_jax.basics.bounds import Checked, OneOf, only_functions, parts_of, takes_function
from rvpo_jax.basics.plain import to_plain
from rvpo_jax.config import AdvantageConfig, DataConfig, LogConfig


def registry() -> tyro.constructors.ConstructorRegistry:
    """tyro's rules, and ours for fields that take names, functions or weights.

    Returns:
      For ``tyro.cli(registry=...)``.
    """
    rules = tyro.constructors.ConstructorRegistry()
    inside: set[Any] = set()

    @rules.struct_rule
    def config_section(info: tyro.constructors.StructTypeInfo) -> Any:
        is_section = isinstance(info.type, type) and issubclass(info.type, Checked)
        if not is_section or info.type in inside:
            return None
        inside.add(info.type)  # tyro's own rule for dataclasses, then ours for the fields
        try:
            spec = tyro.constructors.ConstructorRegistry.get_struct_spec(info)
        finally:
            inside.remove(info.type)
        if not isinstance(spec, tyro.constructors.StructConstructorSpec):
            return spec
        fields = tuple(
            dataclasses.replace(field, type=_option_type(info.type, field.name, field.type))
            for field in spec.fields
        )
        return dataclasses.replace(spec, fields=fields)

    return rules


def _option_type(section: Any, name: str, hint: Any) -> Any:
    """The type of a field as tyro shows and parses it."""
    if (section, name) == (LogConfig, "profile"):
        return Annotated[hint, tyro.conf.arg(aliases=["--profile"], metavar="FIRST:END")]
    if (section, name) == (AdvantageConfig, "weights"):
        return Annotated[object, _option("*", "[NAME VALUE ...]|[VALUE ...]", _weights)]
    if (section, name) == (DataConfig, "rewards"):
        return Annotated[object, _option("*", "[NAME|FILE.py:FUNCTION ...]", tuple)]
    if only_functions(hint):
        return Annotated[object, tyro.conf.Suppress, _option("*", "", tuple)]
    kinds, marks = parts_of(hint)
    if not any(map(takes_function, kinds)):
        return hint
    names = [name for mark in marks if isinstance(mark, OneOf) for name in mark.names()]
    names += [name for kind in kinds if hasattr(kind, "__args__") for name in _texts(kind)]
    names += ["None"] if type(None) in kinds else []
    return Annotated[object, _option(1, f"{{{','.join(names)}}}", _name, tuple(names))]


def _texts(kind: Any) -> list[str]:
    return [text for text in kind.__args__ if isinstance(text, str)]


def _name(texts: list[str]) -> str | None:
    return None if texts == ["None"] else texts[0]


def _option(
    nargs: Any, metavar: str, parse: Callable[[list[str]], Any], choices: Any = None
) -> tyro.constructors.PrimitiveConstructorSpec:
    return tyro.constructors.PrimitiveConstructorSpec(
        nargs=nargs,
        metavar=metavar,
        instance_from_str=parse,
        is_instance=lambda value: True,  # the config has checked it
        str_from_instance=_shown_default,
        choices=choices,
    )


def _shown_default(value: Any) -> list[str]:
    plain = to_plain(value)
    if isinstance(plain, dict):
        return [str(part) for pair in plain.items() for part in pair]
    return [str(part) for part in plain] if isinstance(plain, list) else [str(plain)]


def _weights(texts: list[str]) -> Any:
    """`1 1 2` in channel order, or `format 1 privacy 2` by name; `None` for none."""
    if texts == ["None"]:
        return None
    try:
        return tuple(map(float, texts))
    except ValueError:
        names, values = texts[::2], texts[1::2]
    try:
        if len(names) != len(values):
            raise ValueError
        return dict(zip(names, map(float, values), strict=True))
    except ValueError:
        raise ValueError(
            "give one number per channel in their order, or pairs NAME VALUE"
        ) from None

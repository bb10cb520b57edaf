"""A sweep's settings by name, as `--set key=value` takes them."""

from __future__ import annotations

import difflib
import math
import typing
from collections.abc import Callable, Mapping
from dataclasses import fields, replace
from typing import Any

from tas_bench.errors import InputError, unknown
from tas_bench.sweep import Sweep, names_of
from tas_bench.variant import Variant, inner_methods, parts_of, settings_of


def with_settings(
    sweep: Sweep, settings: Mapping[str, str], known: Mapping[str, Mapping[str, Any]] | None = None
) -> Sweep:
    """The sweep with settings changed, each given as text.

    A key is a field of the sweep ("t"), of the recipe, or of a method or transfer ("tas.lambda_cost"); the last
    part is enough where it names one thing. A method's or transfer's name takes a preset ("tas" = "released").
    A method's settings reach all its variants; a variant's name before the dot, that one alone.

    Args:
        known: all methods and transfers by name, {"methods": {...}, "transfers": {...}}, for these two keys.

    Raises:
        InputError: unknown key, wrong type, value out of range.
    """
    for key in ("methods", "transfers"):  # first, so that their own settings find them
        if key in settings:
            sweep = _choose(sweep, key, settings[key], (known or {}).get(key, {}))
    if "keep" in settings:
        sweep = replace(sweep, keeps={})
    parts, variants = _parts(sweep), _variants(sweep)

    def rank(key: str) -> tuple[bool, bool]:
        """Presets before single settings, and a variant's own last."""
        return key not in parts, key.rpartition(".")[0] in variants

    for key in sorted(settings, key=rank):
        if key not in ("methods", "transfers"):
            sweep = _set(sweep, key, settings[key])
    return sweep


def for_slots(sweep: Sweep, slots: int, manifest: Mapping[str, Any] | None) -> Sweep:
    """The sweep whose methods know how many jobs run side by side: here, or where its directory was begun.

    Args:
        manifest: the directory's, if it has one.
    """
    begun = {} if manifest is None else manifest["fixed"]

    def settled(plugin: Any, name: str) -> Any:
        if not hasattr(plugin, "for_slots"):
            return plugin
        found = plugin.for_slots(slots)
        changed = [f.name for f in fields(found) if getattr(found, f.name) != getattr(plugin, f.name)]
        return replace(found, **{key: begun[f"{name}.{key}"] for key in changed if f"{name}.{key}" in begun})

    return replace(
        sweep,
        methods=tuple(
            replace(m, method=settled(m.method, m.name)) if isinstance(m, Variant) else settled(m, m.name)
            for m in sweep.methods
        ),
    )


def smoke(sweep: Sweep) -> Sweep:
    """The sweep's own short version, under a name of its own so that rows never mix."""
    short = with_settings(sweep, sweep.shortened)
    return replace(short, name=f"{sweep.name}-smoke", title=f"{sweep.title} (smoke: shortened, no evidence)")


def _parts(sweep: Sweep) -> dict[str, Any]:
    """The settable values of a sweep by prefix; variants share their method's name, and the last stands here."""
    return {"": sweep, "recipe": sweep.recipe} | {plugin.name: plugin for plugin in _plugins(sweep)}


def _variants(sweep: Sweep) -> dict[str, Variant]:
    return {plugin.name: plugin for plugin in sweep.methods if isinstance(plugin, Variant)}


def _plugins(sweep: Sweep) -> list[Any]:
    """Methods and transfers, or what holds their settings."""
    return [part for plugin in (*sweep.methods, *sweep.transfers) for part in parts_of(plugin)]


def _keys(sweep: Sweep) -> dict[str, tuple[str, str]]:
    """Full key to (prefix, field)."""
    hidden = ("name", "title", "methods", "transfers", "recipe", "keeps", "shortened")
    return {
        f"{prefix}.{f.name}".lstrip("."): (prefix, f.name)
        for prefix, part in _parts(sweep).items()
        for f in fields(part)
        if f.name not in (inner_methods(part) if prefix else hidden)
    }


def setting_names(sweep: Sweep) -> dict[str, Any]:
    """Every key `--set` takes for this sweep, with its present value."""
    lists = {"methods": names_of(sweep.methods), "transfers": names_of(sweep.transfers)}
    return lists | {key: _value(sweep, prefix, name) for key, (prefix, name) in _keys(sweep).items()}


def _value(sweep: Sweep, prefix: str, name: str) -> Any:
    """A setting's present value; where variants differ, all their values with bars between."""
    found = [getattr(p, name) for p in _plugins(sweep) if p.name == prefix]
    found = list(dict.fromkeys(found)) or [getattr(_parts(sweep)[prefix], name)]
    return found[0] if len(found) == 1 else "|".join(map(str, found))


def preset_names(sweep: Sweep) -> dict[str, tuple[str, ...]]:
    """The methods and transfers that have presets, with the presets' names."""
    return {plugin.name: tuple(plugin.presets()) for plugin in _plugins(sweep) if hasattr(plugin, "presets")}


def _set(sweep: Sweep, key: str, text: str) -> Sweep:
    parts, keys = _parts(sweep), _keys(sweep)
    if key and key in parts:
        return _put(sweep, key, lambda part: _preset(part, key, text))
    prefix, _, name = key.rpartition(".")
    variant = _variants(sweep).get(prefix)
    method: Any = variant and variant.method
    if key not in keys and variant is not None and name in {f.name for f in fields(method)}:
        value = _parse(key, typing.get_type_hints(type(method))[name], text)
        changed = replace(variant, method=replace(method, **{name: value}))
        return replace(sweep, methods=tuple(changed if m is variant else m for m in sweep.methods))
    matches = [full for full in keys if full == key] or [full for full in keys if full.endswith(f".{key}")]
    if not matches:
        raise _unknown_setting(sweep, key)
    if len(matches) > 1:
        raise InputError(f"setting '{key}' could be {' or '.join(matches)}; give it in full")
    prefix, name = keys[matches[0]]
    value = _parse(matches[0], typing.get_type_hints(type(parts[prefix]))[name], text)
    return _put(sweep, prefix, lambda part: replace(part, **{name: value}))


def _put(sweep: Sweep, prefix: str, change: Callable[[Any], Any]) -> Sweep:
    """The sweep with one of its parts changed; a method in all its variants."""
    if not prefix:
        return typing.cast("Sweep", change(sweep))
    if prefix == "recipe":
        return replace(sweep, recipe=change(sweep.recipe))

    def changed(plugin: Any) -> Any:
        if settings_of(plugin).name != prefix:
            return _put_inside(plugin, prefix, change)
        return replace(plugin, method=change(plugin.method)) if isinstance(plugin, Variant) else change(plugin)

    return replace(
        sweep, methods=tuple(map(changed, sweep.methods)), transfers=tuple(map(changed, sweep.transfers))
    )


def _put_inside(plugin: Any, prefix: str, change: Callable[[Any], Any]) -> Any:
    """The method with the methods inside it changed that have this name."""
    inner = {name: getattr(plugin, name) for name in inner_methods(plugin) if not isinstance(plugin, Variant)}
    return replace(plugin, **{name: change(m) for name, m in inner.items() if m.name == prefix})


def _unknown_setting(sweep: Sweep, key: str) -> InputError:
    known = {*setting_names(sweep), *(k.rsplit(".", 1)[-1] for k in _keys(sweep)), *preset_names(sweep)}
    near = difflib.get_close_matches(key, known, n=1, cutoff=0.5)
    hint = f"; did you mean '{near[0]}'?" if near else ""
    return InputError(f"unknown setting '{key}'{hint} (`tas-bench list SWEEP` shows all)")


def _preset(part: Any, key: str, text: str) -> Any:
    """The part with the preset's choices: the fields in which presets differ; a schedule's length stays."""
    if not hasattr(part, "presets"):
        raise InputError(f"{key} has no presets; set one of its fields, as in {key}.FIELD=VALUE")
    presets = part.presets()
    if text not in presets:
        raise unknown(f"preset of {key}", text, presets)
    chosen, default = presets[text], type(part)()
    differing = {
        f.name
        for preset in presets.values()
        for f in fields(preset)
        if getattr(preset, f.name) != getattr(default, f.name)
    }
    return replace(part, **{name: getattr(chosen, name) for name in differing})


def _choose(sweep: Sweep, key: str, text: str, known: Mapping[str, Any]) -> Sweep:
    """Pick methods or transfers by name: the sweep's own with their settings, others with their defaults."""
    if (key, text) == ("transfers", "none"):  # search only
        return replace(sweep, transfers=())
    own = {x.name: x for x in getattr(sweep, key)}
    chosen: list[Any] = []
    for name in (n.strip() for n in text.split(",")):
        if name not in own and name not in known:
            raise unknown(key.rstrip("s"), name, {*own, *known})
        chosen.append(own[name] if name in own else known[name]())
    return replace(sweep, **typing.cast("dict[str, Any]", {key: tuple(chosen)}))


def _parse(key: str, kind: Any, text: str) -> Any:
    """Text to a value of the annotated type."""
    try:
        if kind is bool:
            return {"true": True, "false": False}[text.lower()]
        if kind == int | None:
            return None if text.lower() == "none" else int(text)
        if kind in (tuple[int, ...], tuple[str, ...]):
            return tuple(typing.get_args(kind)[0](part.strip()) for part in text.split(","))
        value = kind(text)
        if kind is float and not math.isfinite(value):
            raise ValueError(text)
    except (KeyError, ValueError) as error:
        wanted = {bool: "true or false", int: "a whole number", float: "a number", str: "a word"}
        listed = {int | None: "a whole number or none", tuple[int, ...]: "whole numbers with commas between"}
        raise InputError(f"{key} must be {(wanted | listed)[kind]}, not '{text}'") from error
    else:
        return value

"""Configuration of a training run: the only place where Hydra composes.

Knows the configuration files and how to say what is wrong with an override; knows nothing about torch. What the
values mean is up to ``sparkvsr.training.build``.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator, Sequence
from functools import cache
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

from hydra import compose, initialize_config_module
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override, OverrideType
from hydra.errors import ConfigCompositionException, HydraException, MissingConfigException, OverrideParseException
from omegaconf import DictConfig, OmegaConf, open_dict
from omegaconf.errors import OmegaConfBaseException

from sparkvsr.errors import ConfigError
from sparkvsr.home import expanded
from sparkvsr.user_cache import user_cache

OmegaConf.register_new_resolver("user_cache", lambda: str(user_cache()), replace=True)

CONFIG_MODULE = "sparkvsr.conf"
CONFIG_ENTRY_POINTS = "sparkvsr.config"
NEAREST = 3
_QUOTED_NUMBER = r"'\1'"
_PATH_ENDINGS = ("root", "path", "dir", "list", "folder", "file", "ckpt", "init")
"""Last words of keys whose values are files or folders."""
_PATH_NAMES = ("start_from", "shards", "teacher", "upscaler", "weights")
"""Such keys whose names do not say so; some also take the name of something that is built in."""
# What other trainers call things.
_SYNONYMS = {
    "lr": "learning_rate",
    "steps": "max_steps",
    "max_iter": "max_steps",
    "bs": "batch_size",
    "workers": "num_workers",
    "gpus": "devices",
    "ema": "ema_decay",
    "resume": "ckpt",
    "output": "output_dir",
}
# Modules and functions that stored configurations name by where they were.
_RENAMED_TARGETS = {
    "sparkvsr.data.references": "sparkvsr.data.keyframe_images",
    "sparkvsr.training.adapters.cogvideox.build_nano_adapter": "sparkvsr.training.adapters.nano.build_nano_adapter",
}


def compose_config(
    overrides: Sequence[str] = (), *, name: str = "train", config_dir: str | Path | None = None
) -> DictConfig:
    """Compose ``conf/<name>.yaml`` with overrides as typed on the command line.

    Args:
        overrides: ``key=value``, ``+key=value``, ``~key``, ``group=option``; ``stage=2`` needs no quotes.
        name: the primary configuration.
        config_dir: folder with the user's own groups, searched before the shipped ones.

    Returns:
        The composed configuration in struct mode; interpolations resolve on access. ``choices`` in it says which
        option of each group it was made of.

    Raises:
        ConfigError: an override cannot be parsed, or its key, group option or value does not exist; with the
            nearest right ones.
    """
    parsed = [_parse(text) for text in overrides]
    texts = [_quote_group_numbers(override) for override in parsed]
    search = search_path(config_dir)
    texts += search
    try:
        config, choices = _compose_with_choices(name, texts)
        with open_dict(config):
            config.choices = choices
        _check_types(parsed, name, texts)
        OmegaConf.to_container(config, resolve=True, throw_on_missing=True)
    except MissingConfigException as exc:
        raise ConfigError(_unknown_option(exc, parsed)) from exc
    except (ConfigCompositionException, OmegaConfBaseException, HydraException, ValueError) as exc:
        raise ConfigError(_explain(exc, name, parsed, tuple(search))) from exc
    except Exception as exc:
        if config_dir is None:
            raise
        # A file of the user's that is no YAML: whatever the parsers make of it.
        msg = f"--config-dir {config_dir}: a file in it cannot be read ({_first_words(exc)})"
        raise ConfigError(msg) from exc
    return config


def search_path(config_dir: str | Path | None) -> list[str]:
    """Where groups are looked for besides the shipped ones, as an override for Hydra; none if nowhere.

    Args:
        config_dir: folder with the user's own groups; it comes first. Then come the packages that installed
            distributions name by entry points of the group ``sparkvsr.config``.

    Raises:
        ConfigError: there is no such folder.
    """
    places = [f"pkg://{package}" for package in config_packages()]
    if config_dir is not None:
        folder = expanded(config_dir).resolve()
        if not folder.is_dir():
            msg = f"--config-dir {config_dir}: no such folder; it holds groups like data/mine.yaml for data=mine"
            raise ConfigError(msg)
        places.insert(0, f"file://{folder}")
    return [f"hydra.searchpath=[{','.join(quoted(place) for place in places)}]"] if places else []


def config_packages() -> list[str]:
    """Packages with groups of configurations that installed distributions name: ``mine = "my_lab.conf"``."""
    return sorted({entry.value for entry in entry_points(group=CONFIG_ENTRY_POINTS)})


def shipped_option(group: str, name: str) -> dict[str, Any] | None:
    """Values of a shipped option of a group, interpolations left as they are; None where none has that name."""
    if name not in _groups().get(group, ()):
        return None
    values = OmegaConf.to_container(_compose(f"{group}/{name}", ())[group], resolve=False)
    return values if isinstance(values, dict) else None  # type: ignore[return-value]


def sweep_texts(overrides: Sequence[str]) -> list[str]:
    """Overrides with several values (``a=1,2``, ``range(1,4)``) for Hydra's sweeper, paths and stages quoted.

    Raises:
        ConfigError: one cannot be parsed, or is a setting of Hydra's.
    """
    return [_quote_group_numbers(_parse(text, is_sweep=True)) for text in overrides]


def _first_words(exc: Exception) -> str:
    text = " ".join(str(exc).split())
    return (text if len(text) <= 300 else f"{text[:297]}...") or type(exc).__name__


def config_text(config: DictConfig) -> str:
    """The configuration as YAML with every interpolation resolved."""
    return OmegaConf.to_yaml(config, resolve=True)


def plain(config: Any) -> Any:
    """Resolved dicts, lists and scalars of a configuration node."""
    return OmegaConf.to_container(config, resolve=True) if OmegaConf.is_config(config) else config


def load_config(path: str | Path) -> DictConfig:
    """Read a run's ``config.yaml`` again.

    Raises:
        ConfigError: the file is missing or is no configuration.
    """
    file = Path(path)
    try:
        loaded = OmegaConf.load(file)
    except (OSError, OmegaConfBaseException, ValueError) as exc:
        msg = f"{file} cannot be read as the configuration of a run: {str(exc).splitlines()[0]}"
        raise ConfigError(msg) from exc
    except Exception as exc:
        msg = f"{file} is not valid YAML: {str(exc).splitlines()[0]}"
        raise ConfigError(msg) from exc
    if not isinstance(loaded, DictConfig):
        msg = f"{file} is no configuration of a run; expected keys like stage, model, data"
        raise ConfigError(msg)
    return _with_present_targets(loaded)


def config_from_dict(values: dict[str, Any]) -> DictConfig:
    """A configuration kept in a checkpoint, as a node again."""
    return _with_present_targets(OmegaConf.create(values))


def _with_present_targets(node: Any) -> Any:
    """Bring the ``_target_`` names of an older version up to date, at every depth."""
    children = list(node) if OmegaConf.is_dict(node) else range(len(node)) if OmegaConf.is_list(node) else ()
    for key in children:
        value = node._get_node(key)
        if OmegaConf.is_config(value) and not value._is_none() and not value._is_missing():
            _with_present_targets(value)
        elif key == "_target_":
            for old, new in _RENAMED_TARGETS.items():
                if str(node[key]) == old or str(node[key]).startswith(f"{old}."):
                    node[key] = new + str(node[key]).removeprefix(old)
    return node


def override_key(text: str) -> str:
    """The key of an override, ``""`` if it cannot be parsed: ``"+data.root=/x"`` gives ``"data.root"``."""
    match = re.match(r"[+~]{0,2}([\w./@-]+)", text)
    return match[1] if match else ""


def _compose(name: str, texts: Sequence[str]) -> DictConfig:
    return _compose_with_choices(name, texts)[0]


def _compose_with_choices(name: str, texts: Sequence[str]) -> tuple[DictConfig, dict[str, str]]:
    """The configuration, and which option of each group it was made of."""
    GlobalHydra.instance().clear()
    try:
        with initialize_config_module(config_module=CONFIG_MODULE, version_base="1.3"):
            config = compose(config_name=name, overrides=list(texts), return_hydra_config=True)
    finally:
        GlobalHydra.instance().clear()
    made_of = config.hydra.runtime.choices
    choices = {str(k): str(v) for k, v in made_of.items() if v is not None and not str(k).startswith("hydra")}
    with open_dict(config):
        del config["hydra"]
    return config, choices


def _parse(text: str, *, is_sweep: bool = False) -> Override:
    parser = OverridesParser.create()
    try:
        override = parser.parse_override(_with_quoted_path(text))
    except (OverrideParseException, HydraException) as exc:
        key, equals, value = text.partition("=")
        if equals and override_key(text) == key.lstrip("+~"):
            msg = f"the value of {key} cannot be read: {value}; put text with other signs in quotes: \"{key}='...'\""
        else:
            msg = f"override {text!r} cannot be read; write key=value, for example trainer.max_steps=500 or stage=2"
        raise ConfigError(msg) from exc
    if override.key_or_group.startswith("hydra"):
        msg = f"override {text!r}: Hydra's own settings are not used here; add configuration folders with --config-dir"
        raise ConfigError(msg)
    if override.is_sweep_override() and not is_sweep:
        msg = f"override {text!r} names several values; train --multirun makes one run of each"
        raise ConfigError(msg)
    # Of a script whose variable is not set: the folder that the command is run in would be meant.
    if _is_path(text) and not override.is_sweep_override() and override.value() == "":
        key = override_key(text)
        msg = f"{key}= names nothing; give a path, or leave {key} out"
        raise ConfigError(msg)
    return override


def _is_path(text: str) -> bool:
    word = override_key(text).rpartition(".")[2]
    return word.endswith(_PATH_ENDINGS) or word in _PATH_NAMES


def _with_quoted_path(text: str) -> str:
    """The override with its value in quotes where Hydra's grammar would make something else of a plain path or text.

    In that grammar ``= ( ) { } [ ] ' # !``, commas, spaces at an end and letters outside ASCII mean something or
    nothing at all; in the name of a folder they are only signs. Several paths have quotes each.
    """
    key, equals, value = text.partition("=")
    if not equals or not value or override_key(text) != key.lstrip("+~") or "${" in value:
        return text
    is_path = _is_path(text)
    try:
        override = OverridesParser.create().parse_override(text)
    except (OverrideParseException, HydraException):
        # A list, a dictionary or a quoted text that is not closed is a mistake, unless such a folder may be meant.
        return text if value[0] in "[{\"'" and not is_path else f"{key}={quoted(value)}"
    if not is_path:
        return text
    if override.is_sweep_override():
        return text if value[0] in "'\"" and not expanded(value).exists() else f"{key}={quoted(value)}"
    read = override.value()
    # A folder that is called 2024 or true is no number and no truth; one that is called str(x) or has a space at its
    # end is called just that. Quotes and backslashes are the grammar's own way to say so.
    is_changed = (
        isinstance(read, str) and read != value and value.lstrip()[:1] not in ("", "'", '"') and "\\" not in value
    )
    if isinstance(read, bool | int | float) or is_changed or (read != value and expanded(value).exists()):
        return f"{key}={quoted(value)}"
    return text


def check_plain_path(path: Path, key: str) -> None:
    """Refuse a path that cannot stand in a configuration.

    Args:
        path: absolute; the folder that the command is run in may be part of it.
        key: for the message.

    Raises:
        ConfigError: it holds ``${``, which stands for the value of another key wherever the path is read again.
    """
    if "${" in str(path):
        msg = f"{key}: {path} holds '${{', which stands for another key in a configuration; choose or rename the folder"
        raise ConfigError(msg)


def quoted(value: str) -> str:
    """Any text as a string of Hydra's grammar: quotes are escaped, backslashes only before them and at the end."""
    escaped = re.sub(r"(\\*)'", r"\1\1\\'", value)
    return "'" + re.sub(r"(\\+)$", r"\1\1", escaped) + "'"


def _quote_group_numbers(override: Override) -> str:
    """Hydra refuses the integer 2 as a group choice, and ``stage=2`` is what everybody types."""
    line = override.input_line or ""
    if override.key_or_group == "stage" and override.is_sweep_override():
        key, _, values = line.partition("=")
        return f"{key}={re.sub(r'(?<![0-9])([0-9]+)(?![0-9])', _QUOTED_NUMBER, values)}"
    if override.key_or_group == "stage" and isinstance(override.value(), int):
        return line.replace(f"={override.value()}", f"='{override.value()}'", 1)
    return line


def _explain(error: Exception, name: str, overrides: Sequence[Override], search: tuple[str, ...]) -> str:
    text = str(error)
    stands_for = re.search(r"Interpolation key '([^']+)' not found", text)
    if stands_for:
        sign = f"${{{stands_for[1]}}}"
        typed = [f"{o.key_or_group}={_shown(o)}" for o in overrides if sign in _shown(o)]
        if typed:
            return f"{typed[0]}: {sign} stands for the value of another key, and there is none of that name"
    unknown = re.search(r"Could not (?:override|delete)[^']*'([^']+)'", text) or re.search(
        r"Key '([^']+)' is not in struct", text
    )
    if unknown:
        return _unknown_key(unknown[1], name, overrides, search)
    if "Config group override must be a string" in text:
        for override in overrides:
            if override.key_or_group in _groups() and not isinstance(override.value(), str):
                options = ", ".join(_groups()[override.key_or_group])
                return f"{override.key_or_group}={_shown(override)} is unknown; there is {options}"
    group = re.search(r"Could not override '?([\w/@.]+)'?\.?\s*No match in the defaults list", text)
    if group:
        return _unknown_key(group[1], name, overrides, search)
    missing = re.search(r"Missing mandatory value: ([\w.]+)", text)
    key = getattr(error, "full_key", None)
    if missing or "MissingMandatoryValue" in type(error).__name__:
        # The text names the key behind an interpolation, the attribute the full path of a plain one.
        wanted = missing[1] if missing and "." in missing[1] else key
        return f"{wanted} has no value; give one: {wanted}=..."
    return f"configuration: {' '.join(text.split())[:300]}"


def _unknown_key(key: str, name: str, overrides: Sequence[Override], search: tuple[str, ...]) -> str:
    choices = tuple(o.input_line or "" for o in overrides if o.key_or_group in _groups())
    known = _hinted(_known_keys(name, choices, search))
    # Another stage has other keys: those of its loss, say.
    other: dict[str, str] = {}
    for stage in _groups().get("stage", ()):
        with_stage = (*(text for text in choices if override_key(text) != "stage"), f"stage={stage}")
        other |= {found: f"{found} (of stage={stage})" for found in _hinted(_known_keys(name, with_stage, search))}
    if not difflib.get_close_matches(key, known, n=1, cutoff=0.9):
        better = [found for found in difflib.get_close_matches(key, other, n=1, cutoff=0.9) if found not in known]
        if better:
            return f"unknown key {key!r}; did you mean {other[better[0]]}?"
    nearest = _nearest(key, known)
    hint = f"did you mean {nearest}?" if nearest else "see sparkvsr train --print-config for all keys"
    return f"unknown key {key!r}; {hint}"


def _hinted(keys: Sequence[str]) -> list[str]:
    """Keys that a user would set."""
    return [key for key in keys if not key.endswith(("_target_", "_partial_"))]


def _unknown_option(error: MissingConfigException, overrides: Sequence[Override]) -> str:
    file = error.missing_cfg_file
    wanted = str(file[0] if isinstance(file, list | tuple) else file or "")
    group, _, option = wanted.rpartition("/")
    options = [str(option) for option in error.options or ()]
    if not options:
        for override in overrides:
            if override.key_or_group == group or override.value() == wanted:
                options = list(_groups().get(override.key_or_group, ()))
    shown = ", ".join(sorted(options)) or "none"
    nearest = _nearest(option, options)
    hint = f"did you mean {nearest}? " if nearest else ""
    return f"{group or 'option'}={option} is unknown; {hint}there is {shown}"


def _nearest(word: str, known: Sequence[str]) -> str:
    """The nearest right ones, also when only the last part of a dotted key was mistyped or the group was left out."""
    found = difflib.get_close_matches(word, known, n=NEAREST, cutoff=0.6)
    tail = word.rpartition(".")[2]
    tail = _SYNONYMS.get(tail, tail)
    by_tail = [key for key in known if key.rpartition(".")[2] == tail]
    close = set(difflib.get_close_matches(tail, [key.rpartition(".")[2] for key in known], n=NEAREST, cutoff=0.7))
    by_tail += [key for key in known if key.rpartition(".")[2] in close]
    # What other trainers call it is a surer sign than letters in common.
    first = [key for key in by_tail if key.rpartition(".")[2] == tail and tail != word.rpartition(".")[2]]
    unique = list(dict.fromkeys(first + found + by_tail))[:NEAREST]
    return " or ".join(unique)


@cache
def _groups() -> dict[str, tuple[str, ...]]:
    """Groups and their options, as shipped."""
    from importlib import resources

    found: dict[str, tuple[str, ...]] = {}
    for entry in resources.files(CONFIG_MODULE).iterdir():
        if entry.is_dir():
            files = (file.name for file in entry.iterdir())
            # What several options share begins with an underscore.
            options = sorted(f.removesuffix(".yaml") for f in files if f.endswith(".yaml") and not f.startswith("_"))
            if options:
                found[entry.name] = tuple(options)
    return found


@cache
def _known_keys(name: str, group_choices: tuple[str, ...], search: tuple[str, ...] = ()) -> tuple[str, ...]:
    quoted = [_quote_group_numbers(_parse(choice)) for choice in group_choices if choice]
    try:
        keys = list(_flatten(_compose(name, [*quoted, *search])))
    except (HydraException, OmegaConfBaseException):
        keys = list(_flatten(_compose(name, ())))
    return tuple(dict.fromkeys([*keys, *_groups()]))


def _flatten(config: Any, prefix: str = "") -> Iterator[str]:
    for key in config:
        full = f"{prefix}{key}"
        yield full
        node = config._get_node(key)
        if isinstance(node, DictConfig) and not node._is_none() and not node._is_missing():
            yield from _flatten(node, f"{full}.")


def _check_types(overrides: Sequence[Override], name: str, texts: Sequence[str]) -> None:
    """Refuse a value of another kind than the shipped one: ``trainer.max_steps=abc``."""
    values = [o for o in overrides if o.type == OverrideType.CHANGE and "." in o.key_or_group]
    if not values:
        return
    changed = {o.key_or_group for o in values}
    kept = [text for text in texts if override_key(text) not in changed or text.lstrip().startswith(("+", "~"))]
    shipped = _compose(name, kept)
    for override in values:
        try:
            default = OmegaConf.select(shipped, override.key_or_group)
        except OmegaConfBaseException:
            continue
        given = override.value()
        wanted = _kind(default)
        if wanted is None or given is None or (isinstance(given, str) and "${" in given):
            continue
        if isinstance(default, bool) != isinstance(given, bool) or not isinstance(given, wanted[0]):
            msg = f"{override.key_or_group}={_shown(override)} is not {wanted[1]}; the shipped value is {default!r}"
            raise ConfigError(msg)


def _kind(value: Any) -> tuple[tuple[type, ...], str] | None:
    if isinstance(value, bool):
        return (bool,), "true or false"
    if isinstance(value, int):
        return (int,), "a whole number"
    if isinstance(value, float):
        return (int, float), "a number"
    if OmegaConf.is_list(value):
        return (list,), "a list like [320,640]"
    return None


def _shown(override: Override) -> str:
    return (override.input_line or "").partition("=")[2]

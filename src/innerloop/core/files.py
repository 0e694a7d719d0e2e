"""JSON as files hold it."""

import json
import math
from typing import Any

from innerloop.core.errors import ConfigError


def parse_json_object(text: str, source: str) -> dict[str, Any]:
    """Parse a JSON object, refusing anything else with a sentence."""
    try:
        values = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"{source} is not JSON: {error}.") from error
    if not isinstance(values, dict):
        raise ConfigError(f"{source} must hold one JSON object, not a {type(values).__name__}.")
    return values


def json_text(value: Any, *, indent: int | None = None) -> str:
    """JSON as other programs read it: a number that is not finite becomes null."""
    return json.dumps(_finite(value), indent=indent, allow_nan=False)


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _finite(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value

"""The weights of innerloop's network for photos: where they are, and their checksum."""

from pathlib import Path

__version__ = "1.0.0"

WEIGHTS = Path(__file__).with_name("lite0.safetensors")
"""The safetensors file; `innerloop.networks.lite0.load_lite0` reads it."""

SHA256 = "19fee8b96ef34e94ed6c23461f0e9def92e68c1074a2d0c4f01a07dddbbd3a9b"
"""Of the whole file, as hexadecimal digits."""

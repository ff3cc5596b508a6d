"""sparring: language models that improve by self-play."""

__version__ = "0.1.0"

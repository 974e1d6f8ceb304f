"""The version, where everything else can take it without importing the package's face."""

__version__ = "0.1.0"

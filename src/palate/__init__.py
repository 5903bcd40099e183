"""palate aligns text-to-image diffusion models with what people prefer."""

__version__ = "0.1.0"

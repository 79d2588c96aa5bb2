"""LocVLM: train vision-language models that know where things are."""

from locvlm import torchvision_shim

__version__ = "0.1.0"

torchvision_shim.install()

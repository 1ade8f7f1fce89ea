"""Netloom joins the containers of many hosts into one network."""

__version__ = "0.1.0"

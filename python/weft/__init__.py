"""Weft: attention variants compiled for the machine they run on."""

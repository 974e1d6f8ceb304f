"""Makers of HR reference images: networks, programs, pipelines and endpoints behind one small interface."""

"""Devices and processes of a run: the mesh, agreement between hosts, stopping."""

"""Where a run happens: the mesh, and what processes agree on."""

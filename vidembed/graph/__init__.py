"""Relations between videos: co-watch counting, the relation graph, the split by video."""

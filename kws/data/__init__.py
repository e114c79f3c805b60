"""Training material: speech synthesis, near misses, rooms, noise, windows, manifests."""

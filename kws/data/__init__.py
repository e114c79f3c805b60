"""Training material: speech synthesis, near misses, rooms, noise, windows, manifests; every draw from a given generator."""

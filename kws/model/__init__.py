"""The networks: any wav2vec2 encoder without its output layer, the three-layer head, and the artefact on disk."""

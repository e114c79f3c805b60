"""Waveforms from files, standard input and the microphone, always (num_samples,) float32 at 16 kHz; needs no torch."""

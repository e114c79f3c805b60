"""Transfer learning: what of the encoder is trained with the head, and the study that shows whether it pays."""

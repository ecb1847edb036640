"""Policies: the decoder and its named sizes."""

"""Frames that pass once: from a pipe, into a pipe, or on request of a program that holds the clip (VapourSynth).

Nothing is stored and nothing is read twice, so there is no resume; what a file's run decides beforehand is decided here
a little ahead of the frames (`keyframes.look_ahead`).
"""

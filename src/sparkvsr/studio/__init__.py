"""The studio: a page on this machine to look at a clip, mend keyframes and see them carried.

``server.py`` serves the page and the frames, ``project.py`` keeps the folder, ``render_process.py`` is the process that
holds the model. Nothing is fetched from anywhere, and the browser names things only by numbers and hashes.
"""

"""Numbers to SVG. Pure: data in, markup out, every drawing with the sentence that it shows."""
